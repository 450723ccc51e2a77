"""Hold the layers of docs/architecture.md: no import and no #include goes up, no modules import in a circle."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = (
    "errors terminal report conversion < core < isa threads weights arrays figure < ir < passes < quantization plan < "
    "state generation values < model < runs verification distributed speech < choice < graph < "
    "recurrent importers exporters < torch jax < accuracy < dynq < bench demo selftest < cli"
)
OPTIONAL = (
    "onnx", "onnxruntime", "torch", "matplotlib", "tokenizers", "safetensors", "transformers", "openvino",
    "ctranslate2", "sklearn", "jax", "pyspark", "google.protobuf", "tflite", "flatbuffers", "ai_edge_litert",
    "rich",  # which only the commands always need: it takes as long to import as dynq
)  # fmt: skip
FRIENDS = {"dynq.torch._model"}  # opens and runs models that lie in tensors
OF_TORCH = {"_modules"}  # names that torch.nn.Module gives to its attributes
NATIVE = "base kernels < quant < gemm < conv recurrent < ops < model < onnxruntime torch"


def levels(text: str) -> dict[str, int]:
    return {name: level for level, names in enumerate(text.split(" < ")) for name in names.split()}


def python_modules(package: Path) -> dict[str, Path]:
    return {
        ".".join(("dynq", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


def sources(node: ast.stmt, module: str, modules: dict[str, Path]) -> list[str]:
    """Return what an import statement imports: modules of dynq, else the names of packages."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = module.split(".") if modules[module].name == "__init__.py" else module.split(".")[:-1]
    parts = base[: len(base) - node.level + 1] if node.level else []
    source = ".".join([*parts, *([node.module] if node.module else [])])
    names = [f"{source}.{alias.name}" for alias in node.names]
    return list(dict.fromkeys(name if name in modules or name == "dynq._native" else source for name in names))


def python_imports(package: Path) -> dict[str, set[str]]:
    """Return what each module of a package imports of it, also inside functions and under TYPE_CHECKING."""
    modules = python_modules(package)
    result: dict[str, set[str]] = {}
    for module, path in modules.items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found = {source for node in nodes for source in sources(node, module, modules)}  # type: ignore[arg-type]
        result[module] = {source for source in found if source.split(".")[0] == "dynq"} - {module}
    return result


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of_module(path: Path, module: str, modules: dict[str, Path]) -> set[str]:
    """Return what a module imports as it is imported: not inside functions, nor under TYPE_CHECKING."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found |= set(sources(node, module, modules))
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not is_type_checking(node):  # type: ignore[arg-type]
                todo.append(node)
    return found


def needless_late_imports(package: Path) -> list[str]:
    """Return the imports of dynq inside functions that lead to no optional package, and so can stand at the top."""
    modules = python_modules(package)
    at_once = {module: imports_of_module(path, module, modules) for module, path in modules.items()}

    def needs_optional(module: str, seen: set[str]) -> bool:
        seen.add(module)
        return any(module == name or module.startswith(f"{name}.") for name in OPTIONAL) or any(
            needs_optional(other, seen) for other in at_once.get(module, ()) if other not in seen
        )

    wrong = []
    for module, path in modules.items():
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in ast.walk(function):
                for source in sources(node, module, modules) if isinstance(node, ast.stmt) else []:
                    if source.split(".")[0] == "dynq" and not needs_optional(source, set()):
                        wrong.append(f"{path.relative_to(package)}:{node.lineno} imports {source}")  # type: ignore[attr-defined]
    return wrong


def upward_imports(package: Path) -> list[str]:
    order = levels(PYTHON)
    wrong = []
    for module, imports in python_imports(package).items():
        if module == "dynq.__main__":
            continue
        own = module.split(".")[1] if "." in module else module
        assert own in order, f"{module} is in no layer of tests/test_layers.py"
        for other in sorted(imports - {"dynq._native"}):
            part = other.split(".")[1] if "." in other else other
            if part != own and order.get(part, len(order)) > order[own]:
                wrong.append(f"{module} imports {other}")
    return wrong


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Return each circle of modules that a walk in depth meets."""
    found, state = [], {}

    def visit(module: str, way: list[str]) -> None:
        state[module] = "on the way"
        for other in sorted(graph.get(module, ())):
            if state.get(other) == "on the way":
                found.append(" -> ".join([*way[way.index(other) :], other]))
            elif other not in state:
                visit(other, [*way, other])
        state[module] = "done"

    for module in graph:
        if module not in state:
            visit(module, [module])
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_native"


def private_attributes(tree: ast.Module) -> set[str]:
    """Return the private names that a module's classes give to their attributes and methods."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    found.add(part.name)
                elif isinstance(part, (ast.Assign, ast.AnnAssign)):
                    found |= {name.id for name in ast.walk(part) if isinstance(name, ast.Name)}
                    found |= {text.value for text in ast.walk(part) if isinstance(text, ast.Constant)}  # __slots__
    return {name for name in found if isinstance(name, str) and is_private(name)}


def private_names_of_others(package: Path) -> list[str]:
    """Return where a module uses a private name that another module of the package defines."""
    modules = python_modules(package)
    trees = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in modules.items()}
    attributes = {module: private_attributes(tree) for module, tree in trees.items()}
    all_attributes = set().union(*attributes.values()) - OF_TORCH
    wrong = []
    for module, tree in ((name, tree) for name, tree in trees.items() if name not in FRIENDS):
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Attribute) and node.attr in all_attributes - attributes[module]:
                names = [ast.unparse(node)]
            elif isinstance(node, ast.ImportFrom) and sources(node, module, modules)[0].split(".")[0] == "dynq":
                names = [a.name for a in node.names if is_private(a.name) and f"{module}.{a.name}" not in modules]
            wrong += [f"{modules[module].relative_to(package)}:{node.lineno} uses {name}" for name in names]  # type: ignore[attr-defined]
    return wrong


def upward_includes(source: Path) -> list[str]:
    order = levels(NATIVE)
    wrong = []
    for path in sorted(source.rglob("*.[ch]")):
        own = path.relative_to(source).parts[0]
        for included in re.findall(r'#include "([^"]+)"', path.read_text(encoding="utf-8")):
            target = (path.parent / included).resolve()
            if not target.is_relative_to(source.resolve()) or not target.exists():
                continue  # dynq/dynq.h
            part = target.relative_to(source.resolve()).parts[0]
            if part != own and part in order and (order[part] > order[own] or (part in order and own not in order)):
                wrong.append(f"{path.relative_to(source)} includes {part}/{target.name}")
            elif part != own and order.get(part) == order[own] and {part, own} != {"base", "kernels"}:
                wrong.append(f"{path.relative_to(source)} includes {part}/{target.name}, its neighbour")
    return wrong


def test_the_page_on_architecture_has_these_lines() -> None:
    page = " ".join((ROOT / "docs/architecture.md").read_text(encoding="utf-8").split())
    assert f"- Python: `{PYTHON}` - C: `{NATIVE}`" in page


def test_no_import_goes_up() -> None:
    assert upward_imports(ROOT / "python/dynq") == []


def test_no_modules_import_each_other() -> None:
    assert circles(python_imports(ROOT / "python/dynq")) == []


def test_imports_inside_functions_are_of_optional_packages() -> None:
    assert needless_late_imports(ROOT / "python/dynq") == []


def test_private_names_stay_in_their_module() -> None:
    assert private_names_of_others(ROOT / "python/dynq") == []


def test_no_include_goes_up() -> None:
    assert upward_includes(ROOT / "native/src") == []


@pytest.mark.parametrize("line", ["from dynq.cli import main", "def f():\n    from ..graph import Graph"])
def test_a_planted_import_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "cli").mkdir()
    (tmp_path / "ir").mkdir()
    for name in ("graph", "cli", "ir"):
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "ir" / "planted.py").write_text(line + "\n")
    assert len(upward_imports(tmp_path)) == 1


@pytest.mark.parametrize(
    ("line", "needless"),
    [
        ("from ..ir.plain import f", True),
        ("from ..ir import plain", True),
        ("import dynq.ir.plain", True),
        ("from ..ir import needs_onnx", False),
        ("from ..ir import needs_it_too", False),
        ("import onnx", False),
        ("from rich import print", False),
    ],
)
def test_a_planted_late_import_is_found_unless_it_leads_to_an_optional_package(
    tmp_path: Path, line: str, needless: bool
) -> None:
    for folder in ("ir", "graph"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "ir" / "plain.py").write_text("def f():\n    import onnx\n")
    (tmp_path / "ir" / "needs_onnx.py").write_text("try:\n    from onnx import helper\nexcept ImportError:\n    pass\n")
    (tmp_path / "ir" / "needs_it_too.py").write_text("from . import needs_onnx\n")
    (tmp_path / "graph" / "planted.py").write_text(f"def f():\n    {line}\n")
    assert len(needless_late_imports(tmp_path)) == needless


@pytest.mark.parametrize(
    "use",
    ["from .owner import _f", "from .owner import A\nA()._x", "from .owner import A\nA()._g()", "def f(a): a._y = 1"],
)
def test_a_planted_private_name_is_found(tmp_path: Path, use: str) -> None:
    owner = "def _f(): ...\nclass A:\n    _y: int\n    def __init__(self): self._x = 1\n    def _g(self): ...\n"
    (tmp_path / "owner.py").write_text(owner)
    (tmp_path / "planted.py").write_text(use + "\n")
    assert len(private_names_of_others(tmp_path)) == 1


def test_a_planted_include_is_found(tmp_path: Path) -> None:
    for name in ("gemm", "ops"):
        (tmp_path / name).mkdir()
    (tmp_path / "ops" / "op.h").touch()
    (tmp_path / "gemm" / "planted.c").write_text('#include "../ops/op.h"\n')
    assert upward_includes(tmp_path) == ["gemm/planted.c includes ops/op.h"]
