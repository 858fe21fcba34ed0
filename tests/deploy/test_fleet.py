"""Gateway, Triton, Prometheus and Grafana on one machine, and KServe: files that fit their schemas and each other."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile.gpu").read_text()
GPU = DEPLOY / "gpu"
COMPOSE = yaml.safe_load((GPU / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FILES = DEPLOY / "helm" / "maskmend" / "files"
RULES, DASHBOARD = FILES / "rules.yaml", json.loads((FILES / "dashboard.json").read_text())
# What NVIDIA documents of its metrics; those of a GPU cannot be seen on a machine without one.
TRITON_METRICS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
}
PINNED = re.compile(r"[a-z0-9./-]+:v?\d[\w.-]*|maskmend[a-z-]*:local")
# Fields of KServe's predictor that are none of a pod's.
KSERVE = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}


def stages(text: str) -> dict[str, list[str]]:
    """Instructions of each stage by its name, without comments and broken lines."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in filter(None, (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())):
        if line.startswith("FROM "):
            found[line.partition(" AS ")[2]] = [line]
        elif found:
            found[list(found)[-1]].append(line)
    return found


STAGES = stages(DOCKERFILE)


# Dockerfile.gpu


def test_the_gateway_is_the_image_of_the_top_with_a_client_for_triton() -> None:
    top = stages((DEPLOY.parent / "Dockerfile").read_text())
    assert [line.replace(",triton]", "]") for line in STAGES["builder"]] == top["builder"]
    assert "cpu,serve,triton" in DOCKERFILE
    same = {line for line in top["runtime"] if line.split()[0] not in ("FROM", "LABEL", "WORKDIR")}
    assert same <= set(STAGES["gateway"])
    assert list(STAGES)[-1] == "gateway", "what is built when no target is named"


def test_every_image_is_pinned_and_ends_as_a_user_that_is_not_root() -> None:
    tag = re.search(r"^ARG TRITON=(\S+)", DOCKERFILE, re.MULTILINE)
    assert tag
    assert re.fullmatch(r"\d\d\.\d\d-py3", tag.group(1))
    assert "latest" not in DOCKERFILE
    for name in ("triton", "gateway"):
        users = [line.split()[1] for line in STAGES[name] if line.startswith("USER ")]
        assert users == ["10001:10001"]
    chart = yaml.safe_load((DEPLOY / "helm" / "maskmend" / "values.yaml").read_text())["triton"]["image"]
    assert (
        SERVICES["triton"]["image"]
        == f"{chart['repository']}:{chart['tag']}"
        == f"{chart['repository']}:{tag.group(1)}"
    )


def test_the_lock_has_what_the_gateway_installs() -> None:
    import tomllib

    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    lock = (DEPLOY.parent / "requirements.lock").read_text().lower()
    for requirement in project["optional-dependencies"]["triton"]:
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE), f"{name} is not in requirements.lock; make lock"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; it comes with the extra dev")
    for file in (DEPLOY / "Dockerfile.gpu", DEPLOY.parent / "Dockerfile"):
        command = [hadolint, "--failure-threshold=warning", "--no-color", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# compose.yaml


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("compose.yaml")), ids=lambda file: file.parent.name)
def test_compose_files_fit_the_specification(file: Path, compose_schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with kubernetes-validate")
    check = jsonschema.Draft7Validator(compose_schema)
    document = yaml.safe_load(file.read_text())
    assert not [f"{list(error.path)}: {error.message}" for error in check.iter_errors(document)]
    document["services"]["another"] = {"image": "a", "portz": []}
    assert list(check.iter_errors(document)), "the check would notice a fault"


def test_compose_gives_no_more_rights_than_are_needed() -> None:
    for name, service in SERVICES.items():
        assert PINNED.fullmatch(service["image"]), name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["pids_limit"] > 0
        assert not {"privileged", "cap_add", "pid"} & set(service)
        for port in service.get("ports", []):
            assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:"), "on this machine only"
    assert not SERVICES["triton"].get("ports"), "Triton asks for no key"


def test_compose_mounts_files_that_are_there_and_volumes_that_are_named() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (GPU / source).resolve().is_file(), source
                assert volume.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]
        for build in filter(None, [service.get("build")]):
            assert (GPU / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile.gpu"
            assert build["target"] in STAGES


def test_compose_starts_the_gateway_before_a_triton_that_it_can_find() -> None:
    settings = pytest.importorskip("maskmend.service.settings", reason="the extra serve is not installed")
    gateway = SERVICES["gateway"]
    environ = {k: v for k, v in gateway["environment"].items() if k != "MASKMEND_API_KEYS_FILE"}
    read = settings.load_settings(environ=environ)
    assert (read.runtime, read.triton_url) == ("triton", "grpc://triton:8001")
    assert gateway["environment"]["MASKMEND_API_KEYS_FILE"] == f"/run/secrets/{gateway['secrets'][0]}"
    assert float(gateway["stop_grace_period"][:-1]) > read.drain_delay_s + 2 * read.drain_s
    assert gateway["depends_on"]["triton"]["condition"] == "service_healthy"
    assert SERVICES["triton"]["depends_on"]["repository"]["condition"] == "service_completed_successfully"
    (device,) = SERVICES["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def exports() -> dict[str, list[str]]:
    (run,) = [line for line in STAGES["repository"] if "maskmend export" in line]
    for key, value in (line.split()[1].split("=") for line in STAGES["repository"] if line.startswith("ARG ")):
        run = run.replace(f"${{{key}}}", value)
    return {"compose": SERVICES["repository"]["command"], "Dockerfile.gpu": shlex.split(run)[2:]}


@pytest.mark.parametrize("place", ["compose", "Dockerfile.gpu"])
def test_the_repository_is_written_by_the_command_that_stands_there(place: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from maskmend.clients.cli.app import app

    args = [re.sub("/models$", str(tmp_path), arg) for arg in exports()[place]]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert "KIND_GPU" in (tmp_path / "bpr-small" / "config.pbtxt").read_text()


# Prometheus and Grafana


def test_prometheus_takes_its_configuration_and_the_rules(promtool: str, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path / "rules.yaml")
    text = (GPU / "prometheus.yaml").read_text().replace("/etc/prometheus/rules.yaml", str(tmp_path / "rules.yaml"))
    (tmp_path / "prometheus.yaml").write_text(text)
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ports = {"gateway": 8000, "triton": 8002}
    for job in yaml.safe_load(text)["scrape_configs"]:
        name = job["job_name"].removeprefix("maskmend-")
        assert job["static_configs"] == [{"targets": [f"{name}:{ports[name]}"]}]


def test_alerts_fire_when_they_should_and_not_before(promtool: str, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path / "rules.yaml")
    shutil.copy(Path(__file__).with_name("rules_test.yaml"), tmp_path)
    done = subprocess.run([promtool, "test", "rules", "rules_test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = set(re.findall(r"alertname: (\w+)", Path(__file__).with_name("rules_test.yaml").read_text()))
    assert alerts() == tried


def alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_the_docs_say_what_to_do_about_every_alert() -> None:
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text()
    assert not {name for name in alerts() if f"`{name}`" not in page}


def queries() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m")


def selectors() -> dict[str, set[str]]:
    """Names of metrics that are asked for, with the labels that are looked at."""
    parser = pytest.importorskip("promql_parser", reason="queries are parsed by promql-parser")
    found: dict[str, set[str]] = {}
    for text in queries():
        parsed = parser.parse(text)

        def visit(node: Any) -> None:
            if isinstance(node, parser.VectorSelector):
                found.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)

        parser.walk(parsed, visit)
    return found


def test_every_metric_that_is_asked_for_is_exported_by_a_running_gateway(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    import httpx
    from prometheus_client.parser import text_string_to_metric_families
    from running import running

    with running(tmp_path / "log", grpc=False) as server:
        assert server.refine().status_code == 200
        assert server.refine(encoding="nothing").status_code == 422
        text = httpx.get(f"{server.url}/metrics").text
    families = list(text_string_to_metric_families(text))
    # A counter without samples yet is known by its family alone.
    names = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    samples = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    of_prometheus = {"up": {"job"}}
    for name, looked_at in selectors().items():
        if name.startswith("nv_"):
            assert name in TRITON_METRICS
            continue
        assert name in names | set(samples) | set(of_prometheus), name
        if name in samples:
            assert looked_at - {"job"} <= samples[name], name
    assert {"maskmend_requests_total", "maskmend_request_seconds_bucket", "maskmend_queue_requests"} <= set(samples)


def test_the_codes_that_rules_ask_for_are_codes_of_errors() -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    import maskmend.service.errors  # noqa: F401 - the classes below are known once it is read
    from maskmend.patcher.errors import MaskmendError

    def codes(kind: type[MaskmendError]) -> Iterator[str]:
        yield kind.code
        for below in kind.__subclasses__():
            yield from codes(below)

    asked = {code for text in re.findall(r'code=~?"([^"]+)"', RULES.read_text()) for code in text.split("|")}
    assert asked <= set(codes(MaskmendError))


def test_the_dashboard_is_one_that_grafana_provisions() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for b in boxes for x in range(b["x"], b["x"] + b["w"]) for y in range(b["y"], b["y"] + b["h"])]
    assert len(set(cells)) == len(cells), "panels lie over each other"
    assert max(x for x, _ in cells) < 24
    (variable,) = DASHBOARD["templating"]["list"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "targets" in panel} == {
        f"${{{variable['name']}}}"
    }
    (source,) = yaml.safe_load((GPU / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert source["type"] == variable["query"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((GPU / "grafana" / "dashboards.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/maskmend.json" in mounted


# KServe


@pytest.mark.parametrize("name", ["gateway", "triton"])
def test_the_predictor_is_a_pod_that_kubernetes_takes(name: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="schemas come with kubernetes-validate")
    (service,) = yaml.safe_load_all((DEPLOY / "kserve" / f"{name}.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    pod = {key: value for key, value in predictor.items() if key not in KSERVE}
    thing = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}
    kubernetes.validate(thing, "1.33.0", strict=True)
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    assert container["name"] == "kserve-container"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 15, "one that fails gets no more requests soon"
    if name == "gateway":
        settings = pytest.importorskip("maskmend.service.settings", reason="the extra serve is not installed")
        environ = {each["name"]: each["value"] for each in container["env"] if "FILE" not in each["name"]}
        read = settings.load_settings(environ=environ)
        assert read.port == container["ports"][0]["containerPort"]
        assert pod["terminationGracePeriodSeconds"] > read.drain_delay_s + 2 * read.drain_s
    else:
        assert container["args"] == json.loads(STAGES["triton"][-1].removeprefix("CMD "))
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_everything_here_is_listed() -> None:
    text = (DEPLOY / "README.md").read_text()
    for entry in sorted(DEPLOY.iterdir()):
        if entry.name != "README.md" and not entry.name.startswith((".", "keys")):
            assert f"({entry.name}" in text, entry.name
