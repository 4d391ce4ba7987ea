"""Which package may import which, and what a file may be."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import graphdriver
from graphdriver.driver import Driver

SOURCE = Path(graphdriver.__file__).parent
TESTS = SOURCE.parents[1] / "tests"
FILES = sorted(SOURCE.rglob("*.py"))

GROUND = {"abilities", "driver", "errors", "homes", "in_place", "printable", "steps"}
MAY_KNOW = {
    "abilities": {"driver"},
    "driver": set[str](),
    "errors": set[str](),
    "homes": {"abilities", "driver"},
    "in_place": set[str](),
    "printable": set[str](),
    "steps": set[str](),
    "locks": set[str](),
    "returned": GROUND,
    "linux": GROUND,
    "files": {"linux"} | GROUND,
    "layer": {"linux"} | GROUND,
    "store": {"layer", "files", "linux"} | GROUND,
    "naive": {"layer", "linux", "locks", "returned"} | GROUND,
    "drivers": {"naive", "store", "layer", "files", "linux"} | GROUND,
    "serving": {"naive", "layer", "files", "linux", "locks", "returned"} | GROUND,
    "docker": {"serving", "naive", "shared", "layer", "files", "linux", "locks", "returned"}
    | GROUND,
    "blobs": GROUND,
    "shared": {"layer", "files", "linux"} | GROUND,
    "containerd": {
        "serving",
        "naive",
        "shared",
        "layer",
        "blobs",
        "files",
        "linux",
        "locks",
        "returned",
    }
    | GROUND,
    "care": {"serving", "drivers", "naive", "store", "layer", "files", "linux", "locks", "returned"}
    | GROUND,
    "images": {"shared", "drivers", "blobs", "layer", "files", "linux"} | GROUND,
    "conformance": {"docker", "containerd", "naive", "layer", "linux"} | GROUND,
    "cli": {
        "conformance",
        "docker",
        "containerd",
        "care",
        "images",
        "shared",
        "serving",
        "drivers",
        "linux",
    }
    | GROUND,
    "__main__": {"cli"},
    "__init__": {"abilities", "driver", "errors", "naive", "docker"},
}
WITHIN = {
    "layer": {
        "tar": set[str](),
        "idmap": set[str](),
        "attributes": {"idmap"},
        "tree": {"attributes"},
        "write": {"tar", "tree", "attributes", "idmap", "whiteout"},
        "overlay": {
            "tar",
            "tree",
            "write",
            "attributes",
            "change_list",
            "changes",
            "pack",
            "whiteout",
        },
        "erofs": {"tar", "tree", "write", "overlay", "attributes", "whiteout"},
    },
    "docker": {"address": set[str]()},
    "conformance": {"kit": set[str](), "plugin": {"kit"}, "snapshotter": {"kit"}},
}
"""Which inner packages of a package may import which others of it."""
NO_FILESYSTEM = "layer.tar"
"""Parsers, apart from input and output."""


def package_of(file: Path) -> str:
    """Return the name of the package or module directly below graphdriver that a file is in."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file: Path, package: str = "graphdriver") -> Iterator[str]:
    """Yield the modules of a package that a file imports, anywhere in it, named from the package on."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            if module.startswith(f"{package}."):
                yield module.removeprefix(f"{package}.")


def test_no_import_hides_from_these_rules(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "import graphdriver.cli.main\n"
        "if TYPE_CHECKING:\n    from graphdriver.docker.client import Client\n"
        "def later():\n    from graphdriver import layer\n"
    )
    assert set(imported(file)) == {"cli.main", "docker.client.Client", "layer"}
    for one in FILES:
        for node in ast.walk(ast.parse(one.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{one}: relative import"


def named(files: Iterable[Path]) -> list[str]:
    """Name files as errors do."""
    return [str(file.relative_to(SOURCE)) for file in files]


def test_imports_run_only_downward() -> None:
    upward = {}
    for file in FILES:
        mine = package_of(file)
        known = {module.partition(".")[0] for module in imported(file)} - {mine}
        if more := known - MAY_KNOW[mine]:
            upward[str(file.relative_to(SOURCE))] = more
    assert not upward


def test_no_test_package_imports_another() -> None:
    beside = {}
    for file in sorted(TESTS.rglob("*.py")):
        mine = file.relative_to(TESTS).parts[0]
        known = {module.partition(".")[0] for module in imported(file, "tests")}
        allowed = {"support", mine} if mine != "project" else {"support", mine, "conftest"}
        if mine != "support" and (more := known - allowed):
            beside[str(file.relative_to(TESTS))] = more
        if mine == "support" and (more := known - {mine}):
            beside[str(file.relative_to(TESTS))] = more
    assert not beside


def test_inner_packages_import_only_those_below_them() -> None:
    upward = {}
    for file in FILES:
        outer, inner = (*file.relative_to(SOURCE).with_suffix("").parts, "")[:2]
        if inner not in WITHIN.get(outer, {}):
            continue
        known = {
            (*module.split("."), "")[1]
            for module in imported(file)
            if module.startswith(f"{outer}.")
        }
        if more := known - {inner} - WITHIN[outer][inner]:
            upward[str(file.relative_to(SOURCE))] = more
    assert not upward


def test_parsers_know_no_filesystem() -> None:
    for file in (SOURCE / NO_FILESYSTEM.replace(".", "/")).rglob("*.py"):
        assert not {module for module in imported(file) if module.startswith("linux")}, file
        assert not {name for name in used(file) if name.startswith("os.")} - {
            "os.fsdecode",
            "os.fsencode",
        }, file


BUILDS_ON: dict[str, tuple[str, ...]] = {
    "erofs": tuple(
        f"drivers.overlay.{name}."
        for name in (
            *(
                "checking",
                "driver",
                "kernel_mounter",
                "layers",
                "layout",
                "mounter",
                "mounts",
                "options",
                "probe",
                "reading",
            ),
            "reference_counts",
        )
    )
}
"""Drivers of the overlay family outside of its package, and the modules of the package that they may
import: not the drivers overlay2 and fuse-overlayfs."""


def test_no_driver_imports_another() -> None:
    packages = [one for one in (SOURCE / "drivers").iterdir() if (one / "__init__.py").exists()]
    for package in packages:
        others = [f"drivers.{one.name}" for one in packages if one != package]
        for file in package.rglob("*.py"):
            for module in imported(file):
                is_base = module.startswith(BUILDS_ON.get(package.name, ()))
                assert is_base or not module.startswith(tuple(others)), f"{file} knows {module}"


def test_the_layout_and_mounts_of_overlays_know_no_driver_class() -> None:
    """Another driver may be built on them."""
    classes = {
        f"drivers.overlay.{name}" for name in ("driver", "fuse_overlayfs", "layers", "overlay2")
    }
    for file in (SOURCE / "drivers/overlay").glob("*.py"):
        if f"drivers.overlay.{file.stem}" not in classes:
            known = {module.rpartition(".")[0] for module in imported(file)}
            assert not known & classes, file


def test_drivers_are_known_by_their_entry_points_alone() -> None:
    packages = tuple(
        f"drivers.{one.name}" for one in (SOURCE / "drivers").iterdir() if one.is_dir()
    )
    for file in FILES:
        if package_of(file) != "drivers":
            assert not [module for module in imported(file) if module.startswith(packages)], file


def test_a_file_has_one_subject() -> None:
    assert not named(file for file in FILES if len(file.read_text().splitlines()) > 600)
    nothing_said = {"utils", "util", "common", "helpers", "misc"}
    assert not named(file for file in FILES if file.stem in nothing_said)


def test_the_contract_is_dockers_fifteen_methods_with_its_arguments() -> None:
    expected = {
        "init": ["home", "options", "uid_maps", "gid_maps"],
        "create": ["id", "parent", "mount_label", "storage_opt"],
        "create_read_write": ["id", "parent", "mount_label", "storage_opt"],
        "remove": ["id"],
        "get": ["id", "mount_label"],
        "put": ["id"],
        "exists": ["id"],
        "status": [],
        "get_metadata": ["id"],
        "cleanup": [],
        "diff": ["id", "parent"],
        "changes": ["id", "parent"],
        "apply_diff": ["id", "parent", "archive"],
        "diff_size": ["id", "parent"],
        "capabilities": [],
    }
    methods = {
        name: list(inspect.signature(method).parameters)[1:]
        for name, method in inspect.getmembers(Driver, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods == expected
    contract = (SOURCE.parents[1] / "docs" / "contract.md").read_text()
    assert all(f"`{name}`" in contract for name in expected)


def test_the_readmes_driver_is_the_example() -> None:
    root = SOURCE.parents[1]
    shown = (root / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    example = ast.parse((root / "examples" / "plain_folders.py").read_text())

    def bodies(tree: ast.Module) -> dict[str, list[str]]:
        return {
            node.name: [ast.dump(statement) for statement in node.body]
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
        }

    assert bodies(ast.parse(shown)) == bodies(example)
    assert len((root / "examples" / "plain_folders.py").read_text().splitlines()) <= 60


FORBIDDEN = {
    "os.chdir": "threads share the working directory, unless one has unshared its own",
    "os.walk": "it stops without a word some 200 levels down, and goes by path",
    "os.fwalk": "it is recursive, and takes a descriptor for each level",
    "shutil.rmtree": "the same",
}
"""What is not done with layers, and why."""


def used(file: Path) -> set[str]:
    """Return what a file uses of modules, as ``module.name``."""
    tree = ast.parse(file.read_text())
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_no_layer_is_worked_on_by_path() -> None:
    by_path = {}
    for file in FILES:
        names = used(file)
        if "unshare_working_directory()" in file.read_text():
            names.discard("os.chdir")
        wrong = names & FORBIDDEN.keys()
        if package_of(file) == "layer":
            wrong |= {n for n in names if n.startswith(("os.path.", "shutil.", "subprocess."))}
        if wrong:
            by_path[str(file.relative_to(SOURCE))] = wrong
    assert not by_path


def test_no_lock_is_taken_where_others_could_take_it() -> None:
    locking = {file.name for file in FILES if {"fcntl.flock", "fcntl.lockf"} & used(file)}
    # An engine keeps its databases for itself, and fails if others lock them.
    assert locking == {"home.py", "path_lock.py", "engine_locks.py"}
