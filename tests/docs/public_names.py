"""Every public function, method and class of the packages, with what its docstring can lean on. Read, not imported."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LAYERS = ("patcher", "models", "service", "clients")
_ARRAY = re.compile(r"\b(NDArray|ArrayLike|ndarray|Tensor)\b")
_SEE = re.compile(r"`([A-Za-z_][\w.]*)`")
Aliases = dict[str, tuple[str, str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Name:
    """A public function, method or class.

    Attributes:
        where: file and line.
        name: `function`, `Class` or `Class.method`.
        node: its source.
        text: its docstring.
        leans_on: texts of its class, of what it overrides, of what it names in backticks, and of aliases in its annotations.
        aliases: names that stand for an array in its module, with what they stand for and the text below them.
    """

    where: str
    name: str
    node: Function | ast.ClassDef
    text: str
    aliases: Aliases
    leans_on: list[str] = field(default_factory=list)

    @property
    def told(self) -> str:
        """All that a reader is told."""
        return "\n".join([self.text, *self.leans_on])

    @property
    def function(self) -> bool:
        return not isinstance(self.node, ast.ClassDef)

    @property
    def command(self) -> bool:
        """Whether it is a command of the command line: its docstring is the help text."""
        if isinstance(self.node, ast.ClassDef):
            return False
        defaults = [ast.unparse(value) for value in self.node.args.defaults if value is not None]
        return any(value.startswith("typer.") for value in defaults)

    def annotations(self) -> dict[str, str]:
        """Argument, or `return`, to its annotation as it is written."""
        if isinstance(self.node, ast.ClassDef):
            return {}
        given = self.node.args
        found = {
            argument.arg: ast.unparse(argument.annotation)
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)
            if argument.annotation is not None
        }
        if self.node.returns is not None:
            found["return"] = ast.unparse(self.node.returns)
        return found

    def named_aliases(self) -> list[str]:
        """Those of `aliases` that its annotations name."""
        every = " ".join(self.annotations().values())
        return [alias for alias in self.aliases if re.search(rf"\b{alias}\b", every)]

    def arrays(self) -> dict[str, str]:
        """Those of the annotations that name an array or a tensor, with aliases spelled out."""
        found = self.annotations()
        for alias in self.named_aliases():
            found = {name: re.sub(rf"\b{alias}\b", self.aliases[alias][0], text) for name, text in found.items()}
        return {name: text for name, text in found.items() if _ARRAY.search(text)}

    def raised(self) -> set[str]:
        """Names of the exceptions that its own body makes and raises; functions within it have bodies of their own."""
        found: set[str] = set()
        waiting: list[ast.AST] = [] if isinstance(self.node, ast.ClassDef) else [*self.node.body]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                continue
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found.add(ast.unparse(node.exc.func).rpartition(".")[2])
            waiting += ast.iter_child_nodes(node)
        return found


def sources(*, private: bool = False) -> list[Path]:
    """Modules of the packages, without what protoc makes; with those of an underscore if `private`."""
    found = [file for layer in LAYERS for file in sorted((REPOSITORY / layer / "maskmend" / layer).rglob("*.py"))]
    found = [file for file in found if "proto" not in file.parts]
    return [file for file in found if private or file.stem.startswith("__") or not file.stem.startswith("_")]


@functools.cache
def parsed(file: Path) -> ast.Module:
    """The source of a module."""
    return ast.parse(file.read_text())


def module_name(file: Path) -> str:
    """`maskmend.patcher.rle` of the file of that module."""
    parts = file.relative_to(REPOSITORY).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def bases() -> dict[str, list[str]]:
    """Every class of the packages with the names of its bases."""
    return {
        node.name: [ast.unparse(base).rpartition(".")[2].partition("[")[0] for base in node.bases]
        for file in sources(private=True)
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ClassDef)
    }


def ancestors(name: str, known: dict[str, list[str]]) -> list[str]:
    """A class and all that it derives from, nearest first."""
    found = [name]
    for one in found:
        found += [base for base in known.get(one, []) if base not in found]
    return found


def public_names() -> list[Name]:
    """All of them, in the order of the files."""
    aliases = _aliases()
    known, found = bases(), []
    for file in sources():
        tree = parsed(file)
        here = dict(aliases[module_name(file)])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                there = aliases.get(node.module or "", {})
                here |= {name.asname or name.name: there[name.name] for name in node.names if name.name in there}
        found += list(_within(tree.body, file, "", here))
    texts = {one.name: one.text for one in found}
    for one in found:
        owner, _, method = one.name.rpartition(".")
        if owner:
            one.leans_on.append(texts.get(owner, ""))
            one.leans_on += [texts.get(f"{base}.{method}", "") for base in ancestors(owner, known)[1:]]
        one.leans_on += [one.aliases[alias][1] for alias in one.named_aliases()]
        one.leans_on += [texts[name] for name in _SEE.findall(one.told) if name in texts and name != one.name]
    return found


def _aliases() -> dict[str, Aliases]:
    found: dict[str, Aliases] = {}
    for file in sources(private=True):
        here = found.setdefault(module_name(file), {})
        body = parsed(file).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                meant = ast.unparse(node.value)
                text = after.value if isinstance(after, ast.Expr) else None
                told = text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""
                if _ARRAY.match(meant):
                    here[node.targets[0].id] = (meant, told)
    return found


def _within(body: list[ast.stmt], file: Path, owner: str, aliases: Aliases) -> Iterator[Name]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or (node.name.startswith("_") and node.name != "__call__"):
            continue
        if any("overload" in ast.unparse(mark) for mark in node.decorator_list):
            continue
        where = f"{file.relative_to(REPOSITORY)}:{node.lineno}"
        yield Name(where, owner + node.name, node, ast.get_docstring(node) or "", aliases)
        if isinstance(node, ast.ClassDef):
            yield from _within(node.body, file, f"{node.name}.", aliases)
