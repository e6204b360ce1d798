"""Checks the imports inside rust/core/src: no circles between files, no import against the order of folders.

Usage: python3 rust/check_imports.py [SOURCE_FOLDER]
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent / "core/src"

# From the lowest layer to the highest: a file may import its own folder and the layers below it.
# Folders of one layer must not import each other.
LAYERS = [
    ["error"],
    ["progress"],
    ["io"],
    ["columns", "text"],
    ["corpus"],
    ["duplicates"],
    ["cleaning", "stats", "tokens", "selection", "writing"],
]

# The entry points: no file of the crate imports one of them.
PASSES = [
    "cleaning::clean",
    "corpus::open_corpus",
    "selection::select",
    "stats::stats",
    "tokens::sample",
    "tokens::tokenize",
    "writing::write",
]

COMMENT_OR_TEXT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\br(#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^\\'])'""", re.DOTALL
)
TOKEN = re.compile(r"\w+|::|[{};,*]|\S")
ROOTS = ("crate", "super", "self")


def module_of(path: Path, source: Path) -> str:
    """The module of a file: `corpus::readers::lines`; "" for lib.rs."""
    parts = path.relative_to(source).with_suffix("").parts
    return "::".join(parts[:-1] if parts[-1] in ("mod", "lib") else parts)


def expand(tokens: list[str], at: int, prefix: list[str]) -> tuple[list[list[str]], int]:
    """The paths of the tree that begins at a token, and the token after it."""
    path, paths = list(prefix), []
    while at < len(tokens):
        token = tokens[at]
        if token == "{":
            at += 1
            while at < len(tokens) and tokens[at] != "}":
                inner, at = expand(tokens, at, path)
                paths += inner
                at += tokens[at : at + 1] == [","]
            return paths, at + 1
        if token in ("*", "self") and path:
            return [path], at + 1
        if not re.fullmatch(r"\w+", token):
            return [path], at
        path.append(token)
        at += 1
        if tokens[at : at + 1] != ["::"]:
            break
        at += 1
    while at < len(tokens) and tokens[at] not in (",", ";", "}"):
        if tokens[at] != "as" and not re.fullmatch(r"\w+", tokens[at]):
            break
        at += 1  # `as name`
    return [path], at


def paths_in(text: str, module: str) -> Iterator[list[str]]:
    """The paths of a file that lead into the crate, each from its root."""
    tokens = TOKEN.findall(COMMENT_OR_TEXT.sub(" ", text))
    here = module.split("::") if module else []
    blocks: list[bool] = []  # of the open braces, which belong to an inline module
    nested: list[str] = []
    for at, token in enumerate(tokens):
        if token == "{":
            inline = at >= 2 and tokens[at - 2] == "mod"
            blocks.append(inline)
            if inline:
                nested.append(tokens[at - 1])
        elif token == "}" and blocks and blocks.pop():
            nested.pop()
        elif token == "use" and tokens[at + 1] == "{":
            raise SystemExit(f"{module or 'lib.rs'}: `use {{…}}` has no root: write one `use` for each path")
        elif token in ROOTS and tokens[at + 1 : at + 2] == ["::"] and (at == 0 or tokens[at - 1] != "::"):
            for path in expand(tokens, at, [])[0]:
                base, rest = here + nested, path
                if rest[0] == "crate":
                    base, rest = [], rest[1:]
                while rest and rest[0] in ("self", "super"):
                    base = base[:-1] if rest[0] == "super" else base
                    rest = rest[1:]
                yield base + rest


def read(source: Path) -> dict[str, set[str]]:
    """The imports of every file, by module; what lib.rs re-exports counts as the module that has it."""
    files = {module_of(path, source): path.read_text() for path in sorted(source.rglob("*.rs"))}
    exports = {
        name: module
        for module, name in re.findall(r"^pub use (?:crate::)?([\w:]+)::(\w+);", files.get("", ""), re.MULTILINE)
    }
    many = re.findall(r"^pub use (?:crate::)?([\w:]+)::\{([^}]*)\};", files.get("", ""), re.MULTILINE)
    exports |= {name.strip(): module for module, names in many for name in names.split(",")}
    imports: dict[str, set[str]] = {}
    for module, text in files.items():
        if not module:
            continue
        found = imports[module] = set()
        for path in paths_in(text, module):
            if len(path) == 1 and path[0] in exports:
                path = exports[path[0]].split("::")
            while path and "::".join(path) not in files:
                path = path[:-1]
            target = "::".join(path)
            if target and target != module:
                found.add(target)
    return imports


def circles(imports: dict[str, set[str]]) -> Iterator[list[str]]:
    """One circle of every group of files that import each other."""
    done: set[str] = set()
    for start in imports:
        way, waiting = {start: ""}, [start]
        while waiting and start not in done:
            module = waiting.pop(0)
            if start in imports.get(module, ()):
                circle = [start]
                while module:
                    circle.append(module)
                    module = way[module]
                yield circle[::-1]
                done.update(circle)
                break
            for target in sorted(imports.get(module, set()) - way.keys()):
                way[target] = module
                waiting.append(target)


def problems(source: Path) -> list[str]:
    """What is wrong with the imports, one line each."""
    imports = read(source)
    layer_of = {folder: number for number, layer in enumerate(LAYERS) for folder in layer}
    found = [f"circle: {' -> '.join(circle)}" for circle in circles(imports)]
    for module, targets in imports.items():
        folder = module.split("::")[0]
        if folder not in layer_of:
            found.append(f"{module}: the folder {folder} is in no layer: add it to LAYERS")
            continue
        for target in sorted(targets):
            other = target.split("::")[0]
            if other != folder and layer_of.get(other, len(LAYERS)) >= layer_of[folder]:
                found.append(f"{module} imports {target}: {other} is not below {folder}")
            if target in PASSES:
                found.append(f"{module} imports the pass {target}: move what it needs below both")
    return found


def main() -> None:
    """Prints the problems and exits with 1 if there is one."""
    found = problems(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
