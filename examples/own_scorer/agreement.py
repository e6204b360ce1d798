"""A scorer: how many of the numbers and acronyms of a pair both sides have: 24, COVID-19, iPhone."""


def shared_numbers(sources, targets):
    """Return one share per pair, 1 if there is nothing to share; each call gets the pairs of a block."""
    return [_share(source, target) for source, target in zip(sources, targets, strict=True)]


def _share(source, target):
    sides = [{word for word in _words(text) if _is_number_or_acronym(word)} for text in (source, target)]
    either = sides[0] | sides[1]
    return len(sides[0] & sides[1]) / len(either) if either else 1.0


def _words(text):
    return (word.strip(".,;:!?()\"'") for word in text.split())


def _is_number_or_acronym(word):
    """Whether a word has a digit, or a capital after its first letter, with which sentences and German nouns begin."""
    return any(letter.isdigit() for letter in word) or any(letter.isupper() for letter in word[1:])
