"""The image without a container engine: its files are read, and the steps of its Dockerfile are run in a folder."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from maskmend.patcher import Rle

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESS = re.compile(r"https?://|--(extra-)?index-url|--trusted-host")
BASE_PIP = "24.0"  # that of the python:3.11 images
KEY = "a-key-of-the-tests-only"


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        return [text for name, text in self.steps if name == word][-1]


def read_stages(text: str) -> dict[str, Stage]:
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = Stage(base)
        else:
            list(stages.values())[-1].steps.append((word, rest.strip()))
    return stages


STAGES = read_stages((REPOSITORY / "Dockerfile").read_text())
RUNTIME = list(STAGES.values())[-1]  # what `docker build` makes when no target is named
HEALTHCHECK = RUNTIME.last("HEALTHCHECK")
IGNORED = (REPOSITORY / ".dockerignore").read_text().splitlines()
COMPOSE = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())
SERVICE = COMPOSE["services"]["maskmend"]


def seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return int(found.group(1))


# What the files say.


def test_every_image_is_pinned_by_a_tag_that_does_not_wander() -> None:
    outside = {stage.base for stage in STAGES.values()} - set(STAGES) - {"scratch"}
    assert len(outside) == 1, "the virtual environment works on the very Python it was made with"
    assert re.fullmatch(r"python:3\.11-slim-[a-z]+", outside.pop())


def test_nothing_is_fetched_but_by_pip_and_no_index_is_named() -> None:
    assert not any(word == "ADD" for stage in STAGES.values() for word, _ in stage.steps)
    for name in ("Dockerfile", ".dockerignore", "deploy/compose.yaml"):
        text = (REPOSITORY / name).read_text()
        assert not ADDRESS.search(text), name
        assert "latest" not in text, name


def test_the_service_runs_as_a_numeric_user_that_is_not_root() -> None:
    user, group = map(int, RUNTIME.last("USER").split(":"))
    assert min(user, group) >= 10_000
    assert [word for word, _ in RUNTIME.steps].index("USER") > [word for word, _ in RUNTIME.steps].index("COPY")


def test_the_image_says_how_it_is_started_checked_and_stopped() -> None:
    assert json.loads(RUNTIME.last("ENTRYPOINT")) == ["maskmend"]
    assert json.loads(RUNTIME.last("CMD")) == ["serve", "--host", "0.0.0.0"]
    assert RUNTIME.last("STOPSIGNAL") == "SIGTERM"
    assert RUNTIME.last("EXPOSE").split() == ["8000", "8001"]
    assert "/healthz/ready" in HEALTHCHECK
    assert health_command()[0] == "python"


def test_the_runtime_takes_over_the_virtual_environment_and_nothing_else() -> None:
    copies = [text for word, text in RUNTIME.steps if word == "COPY"]
    assert copies == ["--from=builder /opt/maskmend /opt/maskmend"]
    assert not any(word == "RUN" for word, _ in RUNTIME.steps)


def test_the_build_context_is_what_the_builder_copies() -> None:
    sent = {line[1:] for line in IGNORED if line.startswith("!")}
    copied = {name for word, text in STAGES["builder"].steps if word == "COPY" for name in text.split()[:-1]}
    assert "*" in IGNORED
    assert sent == copied
    assert all((REPOSITORY / name).exists() for name in copied)


def test_the_lock_has_what_the_image_installs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [r for e in ("cpu", "serve") for r in project["optional-dependencies"][e]]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in wanted}
    assert names <= set(locked()), "make lock"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not on the PATH")
    command = [hadolint, "--failure-threshold=warning", "--no-color", str(REPOSITORY / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_compose_runs_this_one_service_with_as_few_rights_as_it_needs() -> None:
    assert list(COMPOSE["services"]) == ["maskmend"]
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "volumes", "user", "command"} & set(SERVICE)
    folders = [mount.partition(":")[0] for mount in SERVICE["tmpfs"]]
    assert folders == ["/tmp"]
    assert environment()["NUMBA_CACHE_DIR"].startswith("/tmp/")


def test_compose_limits_memory_processors_processes_and_logs() -> None:
    assert re.fullmatch(r"\d+g", SERVICE["mem_limit"])
    assert SERVICE["environment"]["MASKMEND_THREADS"] == str(SERVICE["cpus"])
    assert SERVICE["pids_limit"] > 0
    assert SERVICE["logging"]["options"]["max-size"]
    assert SERVICE["restart"] == "unless-stopped"


def test_compose_listens_on_this_machine_alone_and_asks_for_keys() -> None:
    assert SERVICE["ports"] == [f"${{BIND_ADDRESS:-127.0.0.1}}:{port}:{port}" for port in (8000, 8001)]
    (secret,) = SERVICE["secrets"]
    assert SERVICE["environment"]["MASKMEND_API_KEYS_FILE"] == f"/run/secrets/{secret}"
    assert set(COMPOSE["secrets"]) == {secret}


def test_compose_waits_longer_than_the_service_drains() -> None:
    settings = pytest.importorskip("maskmend.service.settings", reason="the extra serve is not installed")
    values = {key.removeprefix("MASKMEND_").lower(): value for key, value in SERVICE["environment"].items()}
    read = settings.Settings.model_validate(values)
    assert seconds(SERVICE["stop_grace_period"]) > read.drain_delay_s + 2 * read.drain_s


def test_compose_and_the_image_check_health_at_the_same_times() -> None:
    flags = dict(re.findall(r"--([a-z-]+)=(\S+)", HEALTHCHECK))
    said = {key.replace("_", "-"): str(value) for key, value in SERVICE["healthcheck"].items()}
    assert said == flags


# What the steps make.


def health_command() -> list[str]:
    command = json.loads(HEALTHCHECK.partition("CMD ")[2])
    assert all(isinstance(part, str) for part in command)
    return list(command)


def environment() -> dict[str, str]:
    return dict(part.split("=", 1) for word, text in RUNTIME.steps if word == "ENV" for part in shlex.split(text))


def locked() -> dict[str, str]:
    lock = (REPOSITORY / "requirements.lock").read_text()
    return {name.lower(): number for name, number in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock, re.MULTILINE)}


def account() -> dict[str, Any]:
    """Arguments that make a process the user of the image, where this one may."""
    if os.geteuid():
        return {}
    user, group = map(int, RUNTIME.last("USER").split(":"))
    return {"user": user, "group": group, "extra_groups": []}


def interpreter() -> Path:
    """A Python of the image's version that the user of the image may run too."""
    version = re.sub(r"python:([0-9.]+)-.*", r"\1", STAGES["base"].base)
    for found in (Path(sys.base_prefix, "bin", f"python{version}"), shutil.which(f"python{version}", path=os.defpath)):
        try:
            subprocess.run([str(found), "-c", ""], check=True, capture_output=True, cwd="/", **account())
        except (OSError, subprocess.SubprocessError):
            continue
        return Path(str(found))
    pytest.skip(f"no Python {version} here that an unprivileged user may run")


@dataclass
class Image:
    """The file system of a stage, as a folder."""

    root: Path
    done: set[str] = field(default_factory=set)

    def inside(self, text: str) -> str:
        """Paths of the image as paths of the folder."""
        return re.sub(r"(^|=|:)/", rf"\1{self.root}/", text)

    def build(self, name: str) -> None:
        """Run the steps of a stage, after those of the stage it begins with."""
        stage, folder = STAGES[name], self.root
        if name in self.done:
            return
        if stage.base in STAGES:
            self.build(stage.base)
        self.done.add(name)
        for word, text in stage.steps:
            if word == "WORKDIR":
                folder = Path(self.inside(text))
                folder.mkdir(parents=True)
            elif word == "COPY":
                *sources, target = text.split()
                for source in sources:
                    self.copy(source, folder / target)
            elif word == "RUN":
                self.run(text, folder)
            else:
                raise AssertionError(f"{word} in a builder is not understood")

    def copy(self, source: str, target: Path) -> None:
        passed_over = [line.removeprefix("**/") for line in IGNORED if line.startswith("**/")]
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, target, ignore=shutil.ignore_patterns(*passed_over))
        else:
            shutil.copy(REPOSITORY / source, target)

    def run(self, text: str, folder: Path) -> str:
        words = shlex.split(text)
        assert words[0] in ("pip", "python", "cyclonedx-py"), f"RUN {text} is not understood"
        assert not set("|&;<>$`") & set(text), f"RUN {text} needs a shell"
        path = f"{self.root}/base/bin:{os.defpath}"
        command = [self.inside(word) for word in words]
        done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"RUN {text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """What a process in the container sees; its /tmp is a folder here."""
        values = {key: self.inside(value).replace("$PATH", os.defpath) for key, value in environment().items()}
        return {**values, "TMPDIR": f"{self.root}/tmp"}

    def start(self, command: list[str], **more: str) -> subprocess.Popen[bytes]:
        env = {**self.environment(), **more}
        log = (self.root / "log").open("ab")
        return subprocess.Popen(command, cwd="/", env=env, stdout=log, stderr=log, **account())

    def python(self, code: str) -> str:
        """What a program of the runtime prints."""
        command = ["python", "-c", code]
        done = subprocess.run(command, cwd="/", env=self.environment(), capture_output=True, text=True, **account())
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The runtime. Not below pytest's own folder, into which no other user may look."""
    python = interpreter()
    root = Path(tempfile.mkdtemp(prefix="maskmend-image-"))
    try:
        root.chmod(0o755)
        subprocess.run([python, "-m", "venv", "--without-pip", root / "base"], check=True)
        pip = [sys.executable, "-m", "pip", f"--python={root}/base/bin/python", "install", "--quiet"]
        if subprocess.run([*pip, f"pip=={BASE_PIP}"], stdout=subprocess.DEVNULL).returncode:
            pytest.skip("pip reaches no package registry here")
        made = Image(root)
        made.build("sbom-builder")
        (root / "tmp").mkdir()
        if account():
            os.chown(root / "tmp", account()["user"], account()["group"])
        yield made
    finally:
        shutil.rmtree(root)


@pytest.mark.slow
def test_the_image_holds_the_locked_packages_the_weights_and_no_torch(image: Image) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    held = {name.lower().replace("_", "-"): number for name, number in json.loads(image.python(code)).items()}
    assert {"maskmend", "numpy", "openvino", "fastapi", "grpcio"} <= set(held)
    assert not {"torch", "pip", "pytest", "onnxruntime"} & set(held)
    del held["maskmend"]
    known = {name.replace("_", "-"): number for name, number in locked().items()}
    assert held == {name: known.get(name) for name in held}
    (package,) = image.root.glob("opt/maskmend/lib/python3*/site-packages/maskmend")
    assert (package / "models" / "weights" / "bpr-small.onnx").is_file()
    assert not list(package.rglob("*.nb[ci]")), "a cache of the developer's machine"


@pytest.mark.slow
def test_the_sbom_is_valid_and_lists_what_the_image_holds(image: Image) -> None:
    file = image.root / "sbom.json"
    text = file.read_text()
    check = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
        "error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read());"
        "sys.exit(repr(error) if error else 0)"
    )
    subprocess.run([image.root / "base" / "bin" / "python", "-c", check, file], check=True)
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    names = {component["name"].lower() for component in bill["components"]}
    assert {"maskmend", "numpy", "openvino"} <= names
    assert not {"torch", "pip", "cyclonedx-bom"} & names
    assert str(image.root) not in text, "where it was made is nobody's business"


@pytest.mark.slow
def test_openvino_reports_no_usage_from_the_image(image: Image) -> None:
    code = "from openvino_telemetry.utils.opt_in_checker import OptInChecker as C; print(C().check(False, True).name)"
    assert image.python(code).split() == ["DECLINED"]


@pytest.mark.slow
def test_the_service_starts_refines_and_ends_as_an_unprivileged_user(image: Image) -> None:
    keys = image.root / "keys.txt"
    keys.write_text(f"tests: {KEY}\n")
    port, grpc_port = free_port(), free_port()
    command = json.loads(RUNTIME.last("ENTRYPOINT")) + json.loads(RUNTIME.last("CMD"))
    mine = {"MASKMEND_PORT": str(port), "MASKMEND_GRPC_PORT": str(grpc_port), "MASKMEND_API_KEYS_FILE": str(keys)}
    assert image.start(health_command(), **mine).wait(30) == 1, "healthy before it runs"
    server = image.start(command, **mine)
    try:
        until_healthy(image, server, mine)
        status, _ = refine(port, key=None)
        assert status == 401
        status, answer = refine(port, key=KEY)
        assert status == 200, answer
        (instance,) = answer["instances"]
        refined, true = Rle.from_coco(instance["segmentation"]).to_dense() > 0, disk(0)
        assert (refined & true).sum() / (refined | true).sum() > 0.9
        assert list((image.root / "tmp" / "numba").iterdir()), "kernels are cached where they may be"
        server.send_signal(signal.SIGTERM)
        # uvicorn raises the signal again when all is done; process 1 of a container does not die of it.
        assert server.wait(60) == 0
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    assert '"drained"' in (image.root / "log").read_text()


def until_healthy(image: Image, server: subprocess.Popen[bytes], mine: dict[str, str]) -> None:
    deadline = time.monotonic() + 400
    while image.start(health_command(), **mine).wait(30):
        assert server.poll() is None, (image.root / "log").read_text()[-4000:]
        assert time.monotonic() < deadline, (image.root / "log").read_text()[-4000:]
        time.sleep(1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def disk(shift: int) -> np.ndarray:
    rows, columns = np.indices((120, 160))
    return (rows - 60 - shift) ** 2 + (columns - 80 - shift) ** 2 < 36**2


def refine(port: int, key: str | None) -> tuple[int, Any]:
    """One request as a browser or curl sends it: a PNG and a mask that is off by 3 px each way."""
    picture = np.where(disk(0), 210, 40).astype(np.uint8)[..., None].repeat(3, axis=2)
    masks = json.dumps([Rle.from_dense(disk(3)).to_coco()])
    parts = {'name="image"; filename="disk.png"': cv2.imencode(".png", picture)[1].tobytes()}
    parts['name="masks"'] = masks.encode()
    head = b"--edge\r\ncontent-disposition: form-data; "
    body = (
        b"".join(head + name.encode() + b"\r\n\r\n" + data + b"\r\n" for name, data in parts.items()) + b"--edge--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=edge"} | ({"x-api-key": key} if key else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/refine", body, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())
