"""A small English-German grammar: each call draws one sentence in both languages.

German sentences follow German rules and are never derived from the English string: case and adjective endings,
agreement, the finite verb in second place, other verb parts at the end, the verb last in subordinate clauses, nicht and
kein.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from catprune.demonstration import lexicon

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from catprune.demonstration.lexicon import Verb

Item = TypeVar("Item")
PLURAL = "wir"  # German person; plural nouns take its verb forms


def pick(random: Random, items: Sequence[Item]) -> Item:
    """Return one of `items`. Only `random()` is used, because Python guarantees its sequence across versions."""
    return items[int(random.random() * len(items))]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase or pronoun in both languages; `person` selects the German verb form, `third` the English -s."""

    english: str
    german: str
    person: str = "er"
    third: bool = True
    pronoun: bool = False
    indefinite: bool = False


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause before word order is decided.

    English: subject; `auxiliary` and `base` for questions, `statement` (a verb group) otherwise; `rest`.
    German: subject, `finite` verb, `middle`, and the end of the clause (`tail`); `last` is the verb cluster of a
    subordinate clause.
    """

    subject: Phrase
    auxiliary: str
    base: str
    statement: str
    rest: str
    time: tuple[str, str]
    finite: str
    middle: str
    tail: str
    last: str


def words(*parts: str) -> str:
    """Join the parts that are not empty by spaces."""
    return " ".join(part for part in parts if part)


def _adjective(random: Random, kind: str) -> tuple[str, str]:
    usable = [entry for entry in lexicon.ADJECTIVES if kind in entry[4]]
    if random.random() > 0.35:
        return "", ""
    entry = pick(random, usable)
    return entry[0], entry[2]


def _article(random: Random, *, plural: bool) -> tuple[str, str, str]:
    """Return the English word, the German kind and the German stem of a determiner or number."""
    if plural and random.random() < 0.4:
        english, german = pick(random, lexicon.NUMBERS)
        return english, "bare", german
    usable = [entry for entry in lexicon.DETERMINERS if not plural or entry[1]]
    often = [entry for entry in usable for _ in range(entry[4])]
    singular_form, plural_form, kind, stem, _ = pick(random, often)
    return plural_form if plural else singular_form, kind, stem


def noun_phrase(random: Random, kinds: Sequence[str], case: str, *, negated: bool = False) -> Phrase:
    """Draw a determiner, an optional adjective, and a noun of one of `kinds`; a negated ein becomes kein."""
    noun = pick(random, [noun for noun in lexicon.NOUNS if noun.kind in kinds])
    plural = random.random() < 0.3
    english_determiner, kind, stem = _article(random, plural=plural)
    english_adjective, german_adjective = _adjective(random, noun.kind)
    if english_determiner == "a":
        following = english_adjective or noun.english
        english_determiner = "an" if following[0] in "aeiou" else "a"
    indefinite = stem == "ein"
    gender = "p" if plural else noun.gender
    german = words(
        lexicon.determiner(kind, "kein" if indefinite and negated else stem, case, gender),
        lexicon.adjective(kind, german_adjective, case, gender) if german_adjective else "",
        noun.in_german(case, plural=plural),
    )
    english = words(english_determiner, english_adjective, noun.english_plural if plural else noun.english)
    return Phrase(
        english, german, PLURAL if plural else "er", third=not plural, indefinite=indefinite or kind == "bare"
    )


def _subject(random: Random, verb: Verb) -> Phrase:
    if random.random() < 0.4:
        english, _, german, _, _, person, third = pick(random, lexicon.PRONOUNS)
        return Phrase(english, german, person, third=third, pronoun=True)
    doers = ("person", "animal") if verb.base in lexicon.ANIMALS_DO else ("person",)
    return noun_phrase(random, doers, "nominative")


def _object(random: Random, verb: Verb, subject: Phrase, *, negated: bool) -> Phrase:
    animate = "person" in verb.objects and not verb.preposition
    if animate and random.random() < 0.3:
        others = [entry for entry in lexicon.PRONOUNS if entry[0] != subject.english]
        if subject.english in {"I", "we"}:
            others = [entry for entry in others if entry[0] not in {"I", "we"}]
        _, english, _, accusative, dative, *_ = pick(random, others)
        return Phrase(english, accusative if verb.case == "accusative" else dative, pronoun=True)
    phrase = noun_phrase(random, verb.objects, verb.case, negated=negated and not verb.preposition)
    if verb.preposition:
        return replace(phrase, german=words(verb.preposition, phrase.german), indefinite=False)
    return phrase


def _time(random: Random, tense: str) -> tuple[str, str]:
    drawn = random.random()
    if drawn > 0.55:
        return "", ""
    if drawn < 0.08:
        english, german = pick(random, lexicon.DAYS)
        return f"on {english}", f"am {german}"
    if drawn < 0.16:
        hour = pick(random, lexicon.NUMBERS[:11])
        return f"at {hour[0]} o'clock", f"um {hour[1]} Uhr"
    if drawn < 0.22 and tense == "past":
        days = pick(random, lexicon.NUMBERS[:11])
        return f"{days[0]} days ago", f"vor {days[1]} Tagen"
    if drawn < 0.28 and tense == "past":
        year = 1950 + int(random.random() * 70)
        return f"in {year}", f"im Jahr {year}"
    return pick(random, lexicon.TIMES[tense])


def _place(random: Random) -> tuple[str, str]:
    drawn = random.random()
    if drawn > 0.3:
        return "", ""
    if drawn > 0.12:
        return pick(random, lexicon.PLACES)
    english, german = pick(random, lexicon.PREPOSITIONS)
    phrase = noun_phrase(random, ("place",), "dative")
    return words(english, phrase.english), words(german, phrase.german)


def _verb_groups(
    random: Random, verb: Verb, subject: Phrase, tense: str, *, negated: bool
) -> tuple[str, str, str, str, str]:
    """Return English auxiliary and statement; German finite verb, closing part, cluster of a subordinate clause."""
    person = subject.person
    if tense == "future" or (tense == "present" and random.random() < 0.3):
        modal = pick(random, lexicon.MODALS[:2] if negated else lexicon.MODALS)
        english = "will" if tense == "future" else modal[0]
        column = {"ich": 1, "er": 1, "du": 2, "wir": 3}[person]
        finite = lexicon.WERDEN[person] if tense == "future" else modal[column]
        statement = words(english, "not" if negated else "", verb.base).replace("can not", "cannot")
        return english, statement, finite, verb.infinitive, words(verb.infinitive, finite)
    auxiliary = "did" if tense == "past" else "does" if subject.third else "do"
    plain = verb.past if tense == "past" else verb.third if subject.third else verb.base
    statement = words(auxiliary, "not", verb.base) if negated else plain
    if tense == "past":
        finite = (lexicon.SEIN if verb.moves else lexicon.HABEN)[person]
        return auxiliary, statement, finite, verb.participle, words(verb.participle, finite)
    finite = verb.present(person)
    return auxiliary, statement, finite, verb.prefix, verb.prefix + finite


def clause(
    random: Random,
    *,
    subject: Phrase | None = None,
    with_object: bool = True,
    with_place: bool = True,
    may_negate: bool = True,
) -> Clause:
    """Draw a clause with a full verb; `with_object=False` omits a required object (what ...?)."""
    usable = lexicon.VERBS if with_object else [verb for verb in lexicon.VERBS if "thing" in verb.objects]
    verb = pick(random, usable)
    tense = pick(random, ("present", "present", "past", "past", "future"))
    negated = may_negate and random.random() < 0.18
    subject = subject or _subject(random, verb)
    auxiliary, statement, finite, tail, last = _verb_groups(random, verb, subject, tense, negated=negated)
    has_object = with_object and bool(verb.objects)
    obj = _object(random, verb, subject, negated=negated) if has_object else Phrase("", "")
    time = _time(random, tense)
    place = _place(random) if with_place else ("", "")
    manner = pick(random, lexicon.MANNERS) if not has_object and not negated and random.random() < 0.3 else ("", "")
    # Definite objects come before the time, indefinite ones after it; a prepositional object comes last.
    early = obj.german if obj.pronoun or not (obj.indefinite or verb.preposition) else ""
    late = obj.german if obj.indefinite else ""
    prepositional = obj.german if verb.preposition else ""
    nicht = "nicht" if negated and not late.startswith("kein") else ""
    if late and nicht:  # "nicht drei Bücher": the negation comes before the indefinite object
        late, nicht = words(nicht, late), ""
    return Clause(
        subject=subject,
        auxiliary=auxiliary,
        base=verb.base,
        statement=statement,
        rest=words(obj.english, manner[0], place[0]),
        time=time,
        finite=finite,
        middle=words(early, "{time}", late, nicht, manner[1], place[1], prepositional),
        tail=tail,
        last=last,
    )


def _copula(random: Random) -> Clause:
    """Draw a clause of "to be" with an adjective or a comparison."""
    kind = pick(random, ("person", "animal", "thing", "text", "food", "place"))
    subject = noun_phrase(random, (kind,), "nominative")
    past = random.random() < 0.4
    entry = pick(random, [entry for entry in lexicon.ADJECTIVES if kind in entry[4]])
    auxiliary = {(False, True): "is", (False, False): "are", (True, True): "was", (True, False): "were"}[
        past, subject.third
    ]
    finite = (lexicon.WAR if past else lexicon.SEIN)[subject.person]
    drawn = random.random()
    if drawn < 0.35:
        other = noun_phrase(random, (kind,), "nominative")
        english, german = f"{entry[1]} than {other.english}", f"{entry[3]} als {other.german}"
    else:
        degree = ("very ", "sehr ") if drawn < 0.6 else ("not ", "nicht ") if drawn < 0.8 else ("", "")
        english, german = degree[0] + entry[0], degree[1] + entry[2]
    time = _time(random, "past" if past else "present") if random.random() < 0.3 else ("", "")
    return Clause(subject, auxiliary, "", auxiliary, english, time, finite, words("{time}", german), "", finite)


def _middle(part: Clause, *, time: bool = True) -> str:
    return words(*part.middle.replace("{time}", part.time[1] if time else "").split())


def statement(part: Clause) -> tuple[str, str]:
    """Build a statement, subject first."""
    english = words(part.subject.english, part.statement, part.rest, part.time[0])
    return english, words(part.subject.german, part.finite, _middle(part), part.tail)


def fronted(part: Clause) -> tuple[str, str]:
    """Build a statement with the time first, if there is one: in German the verb then precedes the subject."""
    if not part.time[0]:
        return statement(part)
    english = words(part.time[0] + ",", part.subject.english, part.statement, part.rest)
    german = words(part.time[1], part.finite, part.subject.german, _middle(part, time=False), part.tail)
    return english, german


def question(part: Clause, words_before: tuple[str, str] = ("", "")) -> tuple[str, str]:
    """Build a question, with a question word if given."""
    english = words(words_before[0], part.auxiliary, part.subject.english, part.base, part.rest, part.time[0])
    german = words(words_before[1], part.finite, part.subject.german, _middle(part), part.tail)
    return english + "?", german + "?"


def subordinate(part: Clause, conjunction: tuple[str, str]) -> tuple[str, str]:
    """Build a subordinate clause; in German the verb cluster comes last."""
    english = words(conjunction[0], part.subject.english, part.statement, part.rest, part.time[0])
    return english, words(conjunction[1], part.subject.german, _middle(part), part.last)


def _question(random: Random) -> tuple[str, str]:
    drawn = random.random()
    if drawn < 0.5:
        part = _copula(random) if random.random() < 0.3 else clause(random, may_negate=False)
        return question(part)
    if drawn < 0.65:
        part = clause(random, subject=Phrase("who", "wer"))
        english, german = statement(part)
        return english + "?", german + "?"
    if drawn < 0.8:
        return question(clause(random, with_object=False, with_place=False, may_negate=False), ("what", "was"))
    question_words = pick(random, (("why", "warum"), ("where", "wo"), ("how often", "wie oft")))
    return question(clause(random, with_place=False, may_negate=False), question_words)


def _complex(random: Random) -> tuple[str, str]:
    first = statement(clause(random))
    drawn = random.random()
    if drawn < 0.45:
        conjunction = pick(random, (("because", "weil"), ("although", "obwohl")))
        second = subordinate(clause(random), conjunction)
        return f"{first[0]} {second[0]}", f"{first[1]}, {second[1]}"
    if drawn < 0.75:
        knows = pick(random, (("I know", "ich weiß"), ("we think", "wir glauben"), ("she says", "sie sagt")))
        second = subordinate(clause(random), ("that", "dass"))
        return f"{knows[0]} {second[0]}", f"{knows[1]}, {second[1]}"
    conjunction = pick(random, (("and", "und"), ("but", "aber")))
    second = statement(clause(random))
    return f"{first[0]}, {conjunction[0]} {second[0]}", f"{first[1]}, {conjunction[1]} {second[1]}"


def _trying(random: Random) -> tuple[str, str]:
    """Draw a verb with zu and an infinitive: she tries to call him."""
    english, german = (forms.split() for forms in pick(random, lexicon.ZU_VERBS))
    verb = pick(random, [verb for verb in lexicon.VERBS if verb.objects])
    subject = _subject(random, verb)
    obj = _object(random, verb, subject, negated=False)
    ich = german[0].removesuffix("en") + "e"
    finite = {"ich": ich, "du": german[1], "er": german[2], "wir": german[0]}[subject.person]
    trying = english[1] if subject.third else english[0]
    return (
        words(subject.english, trying, "to", verb.base, obj.english),
        words(subject.german, finite) + ", " + words(obj.german, verb.zu_infinitive),
    )


def sentence(random: Random) -> tuple[str, str]:
    """Draw one sentence in English and German, with a capital letter and final punctuation."""
    drawn = random.random()
    if drawn < 0.30:
        pair = statement(clause(random))
    elif drawn < 0.45:
        pair = fronted(clause(random))
    elif drawn < 0.60:
        pair = statement(_copula(random))
    elif drawn < 0.80:
        pair = _question(random)
    elif drawn < 0.90:
        pair = _trying(random)
    else:
        pair = _complex(random)
    english, german = (text[0].upper() + text[1:] for text in pair)
    return (english, german) if english.endswith("?") else (english + ".", german + ".")
