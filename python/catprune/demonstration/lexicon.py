"""The words of the demo's English-German grammar, and the tables of German inflection."""

from __future__ import annotations

from dataclasses import dataclass

# Endings by case for masculine, feminine, neuter, plural ("-" is no ending).
_GENDERS = "mfnp"
_ARTICLE = {"nominative": "der die das die", "accusative": "den die das die", "dative": "dem der dem den"}
_DER_WORD = {"nominative": "er e es e", "accusative": "en e es e", "dative": "em er em en"}
_EIN_WORD = {"nominative": "- e - e", "accusative": "en e - e", "dative": "em er em en"}
_WEAK = {"nominative": "e e e en", "accusative": "en e e en", "dative": "en en en en"}
_MIXED = {"nominative": "er e es en", "accusative": "en e es en", "dative": "en en en en"}
_STRONG = {"nominative": "er e es e", "accusative": "en e es e", "dative": "em er em en"}
_ADJECTIVE = {"the": _WEAK, "der": _WEAK, "ein": _MIXED, "bare": _STRONG}


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun; `oblique` is the singular in the other cases, `kind` decides which verbs may take the noun."""

    english: str
    english_plural: str
    gender: str
    german: str
    oblique: str
    german_plural: str
    kind: str

    def in_german(self, case: str, *, plural: bool) -> str:
        """Return the German form; the dative plural adds -n unless the plural ends in -n or -s."""
        if plural:
            bare = case != "dative" or self.german_plural.endswith(("n", "s"))
            return self.german_plural if bare else self.german_plural + "n"
        return self.german if case == "nominative" else self.oblique


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: English base, -s form and past; German forms, separable prefix, case or preposition of its object."""

    base: str
    third: str
    past: str
    prefix: str
    stem: str
    du: str
    er: str
    participle: str
    moves: bool
    preposition: str
    case: str
    objects: tuple[str, ...]

    @property
    def infinitive(self) -> str:
        """The German infinitive with its prefix: anrufen."""
        return self.prefix + self.stem

    @property
    def zu_infinitive(self) -> str:
        """The German infinitive with zu, inserted in a separable verb: anzurufen."""
        return f"{self.prefix}zu{self.stem}" if self.prefix else f"zu {self.stem}"

    def present(self, person: str) -> str:
        """Return the German finite form without its prefix; `person` is ich, du, er or wir."""
        ich = self.stem.removesuffix("en") + "e"
        return {"ich": ich, "du": self.du, "er": self.er, "wir": self.stem}[person]


def ending(table: dict[str, str], case: str, gender: str) -> str:
    """Return one cell of an inflection table; `gender` is m, f, n or p (plural)."""
    return table[case].split()[_GENDERS.index(gender)].replace("-", "")


def determiner(kind: str, stem: str, case: str, gender: str) -> str:
    """Inflect a German determiner; `kind` is the (article), der (dies-), ein (mein-) or bare (zwei)."""
    if kind == "the":
        return ending(_ARTICLE, case, gender)
    if kind == "bare":  # numbers have no endings; viele and einige take -n in the dative
        return stem + "n" if case == "dative" and stem in {"viele", "einige"} else stem
    return stem + ending(_DER_WORD if kind == "der" else _EIN_WORD, case, gender)


def adjective(kind: str, stem: str, case: str, gender: str) -> str:
    """Inflect a German adjective after a determiner of `kind`."""
    return stem + ending(_ADJECTIVE[kind], case, gender)


_NOUNS = """
man men | der Mann Männer | person
woman women | die Frau Frauen | person
child children | das Kind Kinder | person
teacher teachers | der Lehrer Lehrer | person
doctor doctors | die Ärztin Ärztinnen | person
student students | der Student/en Studenten | person
neighbour neighbours | der Nachbar/n Nachbarn | person
girl girls | das Mädchen Mädchen | person
friend friends | der Freund Freunde | person
sister sisters | die Schwester Schwestern | person
brother brothers | der Bruder Brüder | person
boy boys | der Junge/n Jungen | person
dog dogs | der Hund Hunde | animal
cat cats | die Katze Katzen | animal
horse horses | das Pferd Pferde | animal
bird birds | der Vogel Vögel | animal
book books | das Buch Bücher | text
letter letters | der Brief Briefe | text
newspaper newspapers | die Zeitung Zeitungen | text
story stories | die Geschichte Geschichten | text
apple apples | der Apfel Äpfel | food
cake cakes | der Kuchen Kuchen | food
egg eggs | das Ei Eier | food
potato potatoes | die Kartoffel Kartoffeln | food
key keys | der Schlüssel Schlüssel | thing
bag bags | die Tasche Taschen | thing
car cars | das Auto Autos | thing
coat coats | der Mantel Mäntel | thing
lamp lamps | die Lampe Lampen | thing
picture pictures | das Bild Bilder | thing
table tables | der Tisch Tische | thing
clock clocks | die Uhr Uhren | thing
house houses | das Haus Häuser | place
garden gardens | der Garten Gärten | place
church churches | die Kirche Kirchen | place
tree trees | der Baum Bäume | place
bridge bridges | die Brücke Brücken | place
shop shops | das Geschäft Geschäfte | place
"""

# English base, -s form, past | German infinitive (prefix+), du, er, participle (* sein) | governs | objects
_VERBS = """
buy buys bought | kaufen kaufst kauft gekauft | accusative | thing food text
see sees saw | sehen siehst sieht gesehen | accusative | person animal thing place
find finds found | finden findest findet gefunden | accusative | thing text animal
look-for looks-for looked-for | suchen suchst sucht gesucht | accusative | thing person animal
read reads read | lesen liest liest gelesen | accusative | text
write writes wrote | schreiben schreibst schreibt geschrieben | accusative | text
eat eats ate | essen isst isst gegessen | accusative | food
bring brings brought | bringen bringst bringt gebracht | accusative | thing food text
take takes took | mit+nehmen nimmst nimmt mitgenommen | accusative | thing text
call calls called | an+rufen rufst ruft angerufen | accusative | person
pick-up picks-up picked-up | ab+holen holst holt abgeholt | accusative | thing text
invite invites invited | ein+laden lädst lädt eingeladen | accusative | person
meet meets met | kennen+lernen lernst lernt kennengelernt | accusative | person
sell sells sold | verkaufen verkaufst verkauft verkauft | accusative | thing place food
visit visits visited | besuchen besuchst besucht besucht | accusative | person place
love loves loved | lieben liebst liebt geliebt | accusative | person animal
help helps helped | helfen hilfst hilft geholfen | dative | person animal
thank thanks thanked | danken dankst dankt gedankt | dative | person
follow follows followed | folgen folgst folgt gefolgt* | dative | person animal
listen-to listens-to listened-to | zu+hören hörst hört zugehört | dative | person
wait-for waits-for waited-for | warten wartest wartet gewartet | auf accusative | person animal
think-of thinks-of thought-of | denken denkst denkt gedacht | an accusative | person place
talk-about talks-about talked-about | sprechen sprichst spricht gesprochen | über accusative | person text
play-with plays-with played-with | spielen spielst spielt gespielt | mit dative | person animal
dream-of dreams-of dreamt-of | träumen träumst träumt geträumt | von dative | person place
work works worked | arbeiten arbeitest arbeitet gearbeitet | - |
sleep sleeps slept | schlafen schläfst schläft geschlafen | - |
laugh laughs laughed | lachen lachst lacht gelacht | - |
sing sings sang | singen singst singt gesungen | - |
arrive arrives arrived | an+kommen kommst kommt angekommen* | - |
get-up gets-up got-up | auf+stehen stehst steht aufgestanden* | - |
come-back comes-back came-back | zurück+kommen kommst kommt zurückgekommen* | - |
"""

# English, comparative | German, comparative | kinds of nouns
_ADJECTIVES = """
old older | alt älter | person animal thing text place
young younger | jung jünger | person animal
new newer | neu neuer | thing text place
big bigger | groß größer | person animal thing food place
small smaller | klein kleiner | person animal thing food place
beautiful more-beautiful | schön schöner | person animal thing text place
good better | gut besser | person text food
friendly friendlier | freundlich freundlicher | person animal
clever cleverer | klug klüger | person animal
happy happier | glücklich glücklicher | person
cheap cheaper | billig billiger | thing text food place
long longer | lang länger | text
short shorter | kurz kürzer | text
heavy heavier | schwer schwerer | thing
quiet quieter | ruhig ruhiger | person place
red redder | rot roter | thing food
black blacker | schwarz schwärzer | animal thing
green greener | grün grüner | thing place food
"""


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    """Parse a list of word pairs like "two zwei, three drei"."""
    return tuple((english, german) for english, german in (entry.split() for entry in table.split(", ")))


DETERMINERS = (
    # English singular, English plural, German kind, German stem, how often
    ("the", "the", "the", "", 8),
    ("a", "", "ein", "ein", 6),
    ("my", "my", "ein", "mein", 2),
    ("your", "your", "ein", "dein", 1),
    ("our", "our", "ein", "unser", 1),
    ("this", "these", "der", "dies", 2),
    ("every", "", "der", "jed", 1),
)
NUMBERS = _pairs(
    "two zwei, three drei, four vier, five fünf, six sechs, seven sieben, eight acht, nine neun, "
    "ten zehn, eleven elf, twelve zwölf, many viele, some einige"
)
DAYS = _pairs(
    "Monday Montag, Tuesday Dienstag, Wednesday Mittwoch, Thursday Donnerstag, Friday Freitag, "
    "Saturday Samstag, Sunday Sonntag"
)
# English subject, object, German nominative, accusative, dative, person of the German verb, English -s
PRONOUNS = (
    ("I", "me", "ich", "mich", "mir", "ich", False),
    ("you", "you", "du", "dich", "dir", "du", False),
    ("he", "him", "er", "ihn", "ihm", "er", True),
    ("she", "her", "sie", "sie", "ihr", "er", True),
    ("we", "us", "wir", "uns", "uns", "wir", False),
    ("they", "them", "sie", "sie", "ihnen", "wir", False),
)
TIMES = {
    "present": (("today", "heute"), ("now", "jetzt"), ("every day", "jeden Tag"), ("in summer", "im Sommer")),
    "past": (("yesterday", "gestern"), ("last week", "letzte Woche"), ("last year", "letztes Jahr")),
    "future": (("tomorrow", "morgen"), ("next week", "nächste Woche"), ("soon", "bald")),
}
MANNERS = (
    ("alone", "allein"),
    ("quickly", "schnell"),
    ("together with us", "zusammen mit uns"),
    ("quietly", "leise"),
)
PLACES = (
    ("at home", "zu Hause"),
    ("in the kitchen", "in der Küche"),
    ("in the city", "in der Stadt"),
    ("at the station", "am Bahnhof"),
    ("in the park", "im Park"),
    ("at school", "in der Schule"),
)
PREPOSITIONS = (("behind", "hinter"), ("next to", "neben"), ("in front of", "vor"), ("near", "bei"))
# English, German for ich/er, du, wir
MODALS = (
    ("can", "kann", "kannst", "können"),
    ("should", "soll", "sollst", "sollen"),
    ("must", "muss", "musst", "müssen"),
)
ZU_VERBS = (
    ("try tries tried", "versuchen versuchst versucht"),
    ("begin begins began", "beginnen beginnst beginnt"),
    ("hope hopes hoped", "hoffen hoffst hofft"),
)
ANIMALS_DO = frozenset(
    {"see", "find", "eat", "follow", "wait for", "play with", "sleep", "arrive", "come back", "love"}
)
HABEN = {"ich": "habe", "du": "hast", "er": "hat", "wir": "haben"}
SEIN = {"ich": "bin", "du": "bist", "er": "ist", "wir": "sind"}
WAR = {"ich": "war", "du": "warst", "er": "war", "wir": "waren"}
WERDEN = {"ich": "werde", "du": "wirst", "er": "wird", "wir": "werden"}


def _noun(line: str) -> Noun:
    english, german, kind = (part.split() for part in line.split("|"))
    singular, _, suffix = german[1].partition("/")
    gender = {"der": "m", "die": "f", "das": "n"}[german[0]]
    return Noun(english[0], english[1], gender, singular, singular + suffix, german[2], kind[0])


def _verb(line: str) -> Verb:
    english, german, governs, objects = (part.split() for part in line.split("|"))
    base, third, past = (form.replace("-", " ") for form in english[:3])
    prefix, _, stem = german[0].rpartition("+")
    return Verb(
        base=base,
        third=third,
        past=past,
        prefix=prefix,
        stem=stem,
        du=german[1],
        er=german[2],
        participle=german[3].removesuffix("*"),
        moves=german[3].endswith("*"),
        preposition=governs[0] if len(governs) > 1 else "",
        case=governs[-1],
        objects=tuple(objects),
    )


def _adjective(line: str) -> tuple[str, str, str, str, tuple[str, ...]]:
    english, german, kinds = (part.split() for part in line.split("|"))
    return english[0], english[1].replace("-", " "), german[0], german[1], tuple(kinds)


NOUNS = tuple(_noun(line) for line in _NOUNS.strip().splitlines())
VERBS = tuple(_verb(line) for line in _VERBS.strip().splitlines())
ADJECTIVES = tuple(_adjective(line) for line in _ADJECTIVES.strip().splitlines())
