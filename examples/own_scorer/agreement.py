"""A scorer: the share of words with digits, capitals or foreign letters that both sides have in common."""


def shared_names(sources, targets):
    """Return one number per pair; each call gets the pairs of a block."""
    return [_share(source, target) for source, target in zip(sources, targets, strict=True)]


def _share(source, target):
    sides = [set(filter(_is_name, text.split())) for text in (source, target)]
    either = sides[0] | sides[1]
    return len(sides[0] & sides[1]) / len(either) if either else 1.0


def _is_name(word):
    return any(letter.isdigit() or letter.isupper() for letter in word[1:])
