"""The chart, rendered by Helm's own library: fits Kubernetes' schemas, and what it starts understands what it is told."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "maskmend"
OLDEST, NEWEST = "1.27.0", "1.33.0"
# Kinds that are no part of Kubernetes; no schema of theirs comes with a package.
OPERATORS = {"ServiceMonitor", "PrometheusRule"}
EVERYTHING: dict[str, Any] = {
    "fullnameOverride": "masks",
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccount": {"annotations": {"a": "b"}},
    "tls": {"existingSecret": "masks-tls"},
    "gateway": {
        "weights": ["bpr-small", "bpr-base"],
        "settings": {"queue": 32, "timeout_s": 20.5, "url_hosts": ["images.example.com"], "log_level": "warning"},
        "env": [{"name": "OTEL_SERVICE_NAME", "value": "maskmend"}],
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "extraVolumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
        "extraVolumeMounts": [{"name": "weights", "mountPath": "/weights", "readOnly": True}],
    },
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "egress": [{"ports": [{"port": 443}], "to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}],
    },
    "monitoring": {"labels": {"release": "prometheus"}},
    "triton": {
        "replicas": 3,
        "nodeSelector": {"pool": "gpu"},
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a": "b"},
        "priorityClassName": "high",
    },
}
BARE = {
    "auth": {"enabled": False},
    "serviceAccount": {"create": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
}


@pytest.fixture(scope="module", params=["cpu", "gpu", "everything", "bare"])
def rendered(request: pytest.FixtureRequest, render: Callable[..., Any]) -> Any:
    files = {"cpu": (), "bare": ()}.get(request.param, ("values-gpu.yaml",))
    return render(*files, **{"everything": EVERYTHING, "bare": BARE}.get(request.param, {}))


@pytest.fixture(scope="module")
def fleet(render: Callable[..., Any]) -> Any:
    return render("values-gpu.yaml")


def pods(rendered: Any) -> Iterator[dict[str, Any]]:
    """Every pod's specification, that of hooks too."""
    for thing in rendered.objects:
        if thing["kind"] in ("Deployment", "StatefulSet"):
            yield thing["spec"]["template"]["spec"]
    for hook in rendered.hooks:
        yield hook["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def labels(workload: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def test_lint_finds_no_fault(helm: Callable[..., Any]) -> None:
    answer = helm("lint")
    assert answer["Errors"] is None
    # 1 is information, such as a missing icon; 2 a warning, 3 an error.
    assert all(message["Severity"] == 1 for message in answer["Messages"]), answer


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_fits_the_schema_of_kubernetes(rendered: Any, version: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="schemas come with kubernetes-validate")
    checked = 0
    for thing in [*rendered.objects, *rendered.hooks]:
        if thing["kind"] not in OPERATORS:
            kubernetes.validate(thing, version, strict=True)
            checked += 1
    assert checked >= 4


def test_the_check_would_notice_a_fault(fleet: Any) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="schemas come with kubernetes-validate")
    broken = fleet.of("Deployment")
    broken = {**broken, "spec": {**broken["spec"], "replica": 2}}
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(broken, NEWEST, strict=True)


def test_what_each_set_of_values_makes(render: Callable[..., Any], fleet: Any) -> None:
    base = ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"]
    assert render().kinds() == base
    more = ["ConfigMap", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "PrometheusRule", "Service"]
    assert fleet.kinds() == sorted([*base, *more, "ServiceMonitor", "ServiceMonitor", "StatefulSet"])
    assert render(**BARE).kinds() == ["ConfigMap", "Deployment", "Service"]


def test_no_secret_is_ever_made(rendered: Any) -> None:
    assert "Secret" not in rendered.kinds()


def test_the_service_understands_every_setting(rendered: Any, tmp_path: Path) -> None:
    settings = pytest.importorskip("maskmend.service.settings", reason="the extra serve is not installed")
    data = rendered.of("ConfigMap") if rendered.kinds().count("ConfigMap") == 1 else config(rendered)
    file = tmp_path / "file"
    file.write_text("me: a-key-of-the-tests-only\n")
    paths = ("MASKMEND_API_KEYS_FILE", "MASKMEND_TLS_CERT", "MASKMEND_TLS_KEY")
    read = settings.load_settings(environ={k: str(file) if k in paths else v for k, v in data["data"].items()})
    assert (read.host, read.port, read.grpc_port) == ("0.0.0.0", 8000, 8001)
    pod = rendered.of("Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > read.drain_delay_s + 2 * read.drain_s
    if read.runtime == "triton":
        assert read.triton_url
    else:
        assert read.threads == pod["containers"][0]["resources"]["limits"]["cpu"]


def config(rendered: Any) -> dict[str, Any]:
    (found,) = (o for o in rendered.objects if o["kind"] == "ConfigMap" and "MASKMEND_HOST" in o["data"])
    assert isinstance(found, dict)
    return found


def test_kubernetes_adds_no_variables_which_the_service_would_refuse(rendered: Any) -> None:
    settings = pytest.importorskip("maskmend.service.settings", reason="the extra serve is not installed")
    with pytest.raises(settings.OptionError):
        settings.load_settings(environ={"MASKMEND_SERVICE_HOST": "10.0.0.1"})
    assert all(pod["enableServiceLinks"] is False for pod in pods(rendered))


def test_pods_have_as_few_rights_as_they_need(rendered: Any) -> None:
    for pod in pods(rendered):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not any("hostPath" in volume for volume in pod.get("volumes", []))
        for container in containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_what_is_mounted_is_there(rendered: Any) -> None:
    for pod in pods(rendered):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
        assert mounted == volumes


def test_selectors_find_their_pods_and_ports_their_names(rendered: Any) -> None:
    workloads = [o for o in rendered.objects if o["kind"] in ("Deployment", "StatefulSet")]
    found = {}
    for workload in workloads:
        chosen = workload["spec"]["selector"]["matchLabels"]
        assert chosen.items() <= labels(workload).items()
        found[workload["metadata"]["name"]] = labels(workload), ports(workload)
    assert len({tuple(sorted(each.items())) for each, _ in found.values()}) == len(workloads)
    for thing in rendered.objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            own, names = found[thing["metadata"]["name"]]
            assert spec["selector"].items() <= own.items()
            assert {port["targetPort"] for port in spec["ports"]} <= set(names)
        elif thing["kind"] == "NetworkPolicy":
            own, names = found[thing["metadata"]["name"]]
            assert spec["podSelector"]["matchLabels"].items() <= own.items()
            assert {port["port"] for rule in spec["ingress"] for port in rule["ports"]} <= set(names)
        elif thing["kind"] == "PodDisruptionBudget":
            own, _ = found[thing["metadata"]["name"]]
            assert spec["selector"]["matchLabels"].items() <= own.items()
        elif thing["kind"] == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"]["name"] in found
        elif thing["kind"] == "ServiceMonitor":
            services = [o for o in rendered.objects if o["kind"] == "Service"]
            chosen = spec["selector"]["matchLabels"].items()
            (service,) = [s for s in services if chosen <= s["metadata"]["labels"].items()]
            assert {end["port"] for end in spec["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}


def ports(workload: dict[str, Any]) -> dict[str, int]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_probes_ask_what_is_there(fleet: Any) -> None:
    expected = {
        "Deployment": ("/healthz/ready", "/healthz/live"),
        "StatefulSet": ("/v2/health/ready", "/v2/health/live"),
    }
    for kind, (ready, live) in expected.items():
        (container,) = fleet.of(kind)["spec"]["template"]["spec"]["containers"]
        assert container["startupProbe"]["httpGet"]["path"] == container["readinessProbe"]["httpGet"]["path"] == ready
        assert container["livenessProbe"]["httpGet"]["path"] == live
        assert all(container[probe]["httpGet"]["port"] == "http" for probe in ("readinessProbe", "livenessProbe"))
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 300
    # A pod is out of the endpoint lists before it stops to accept.
    assert float(config(fleet)["data"]["MASKMEND_DRAIN_DELAY_S"]) >= 5


def test_settings_of_tls_reach_probes_and_monitors(render: Callable[..., Any]) -> None:
    found = render("values-gpu.yaml", tls={"existingSecret": "masks-tls"})
    (container,) = found.of("Deployment")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    assert found.of("ServiceMonitor", "-maskmend")["spec"]["endpoints"][0]["scheme"] == "https"
    assert "https://" in found.hooks[0]["spec"]["containers"][0]["command"][-1]


def test_gateways_know_every_triton_by_name_and_nobody_else_reaches_them(render: Callable[..., Any]) -> None:
    found = render("values-gpu.yaml", triton={"replicas": 3})
    pool, service = found.of("StatefulSet"), found.of("Service", "-triton")
    assert service["spec"]["clusterIP"] == "None"
    assert pool["spec"]["serviceName"] == service["metadata"]["name"]
    name = pool["metadata"]["name"]
    urls, _, options = config(found)["data"]["MASKMEND_TRITON_URL"].partition("?")
    assert urls.split(",") == [f"grpc://{name}-{n}.{name}:8001" for n in range(pool["spec"]["replicas"])]
    assert options
    triton_url = pytest.importorskip("maskmend.models.runtimes.triton_url", reason="no runtime triton")
    target = triton_url.parse_triton_url(f"{urls}?{options}")
    assert len(target.servers) == 3
    assert target.timeout_s < 10, "one that hangs would make every gateway unready"
    policy = found.of("NetworkPolicy", "-triton")["spec"]
    assert policy["egress"] == []
    asked = [rule for rule in policy["ingress"] if {"port": "grpc"} in rule["ports"]]
    (source,) = asked[0]["from"]
    assert source["podSelector"]["matchLabels"].items() <= labels(found.of("Deployment")).items()
    assert "namespaceSelector" not in source
    assert len(asked) == 1


def test_triton_gets_gpus_and_other_nodes_are_left_alone(fleet: Any, render: Callable[..., Any]) -> None:
    pod = fleet.of("StatefulSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"]
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    slow = render("values-gpu.yaml", triton={"gpus": 0, "backend": "python"})
    pod = slow.of("StatefulSet")["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert "--gpu" not in pod["initContainers"][0]["args"]


def test_the_init_containers_write_a_repository_that_triton_could_read(
    render: Callable[..., Any], tmp_path: Path
) -> None:
    """The command of each is run here, by the real command line."""
    pytest.importorskip("tritonclient.grpc", reason="the configuration is parsed by tritonclient")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2
    from typer.testing import CliRunner

    from maskmend.clients.cli.app import app

    found = render("values-gpu.yaml", gateway={"weights": ["bpr-small", "bpr-base"]})
    pod = found.of("StatefulSet")["spec"]["template"]["spec"]
    for container in pod["initContainers"]:
        args = [arg.replace("/models", str(tmp_path)) for arg in container["args"]]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 0, done.output
    for name in config(found)["data"]["MASKMEND_WEIGHTS"].split(","):
        text = (tmp_path / name / "config.pbtxt").read_text()
        parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert parsed.name == name
        assert model_config_pb2.ModelInstanceGroup.KIND_GPU in {group.kind for group in parsed.instance_group}
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_the_autoscaler_looks_at_the_queue_and_at_processors(fleet: Any, render: Callable[..., Any]) -> None:
    by = {metric["type"]: metric for metric in fleet.of("HorizontalPodAutoscaler")["spec"]["metrics"]}
    assert by["Pods"]["pods"]["metric"]["name"] == "maskmend_queue_requests"
    assert by["Resource"]["resource"]["name"] == "cpu"
    assert "replicas" not in fleet.of("Deployment")["spec"]
    alone = render("values-gpu.yaml", autoscaling={"queueRequests": 0}).of("HorizontalPodAutoscaler")
    assert [metric["type"] for metric in alone["spec"]["metrics"]] == ["Resource"]
    assert render().of("Deployment")["spec"]["replicas"] == 2


def test_rules_of_triton_come_only_with_triton(fleet: Any, render: Callable[..., Any]) -> None:
    source = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    assert fleet.of("PrometheusRule")["spec"] == source
    slow = render(monitoring={"prometheusRule": True}).of("PrometheusRule")["spec"]
    assert [group["name"] for group in slow["groups"]] == ["gateway"]
    jobs = {
        monitor["spec"]["endpoints"][0]["relabelings"][0]["replacement"]
        for monitor in fleet.objects
        if monitor["kind"] == "ServiceMonitor"
    }
    asked = set(re.findall(r'job="([^"]+)"', (CHART / "files" / "rules.yaml").read_text()))
    assert asked == jobs


def test_other_settings_make_other_pods(render: Callable[..., Any]) -> None:
    def checksum(**values: Any) -> str:
        annotations = render(**values).of("Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert checksum() != checksum(gateway={"settings": {"queue": 5}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gateway": {"replica": 3}}, "replica"),
        ({"triton": {"backend": "caffe"}}, "backend"),
        ({"gateway": {"weights": []}}, "weights"),
        ({"auth": {"existingSecret": ""}}, "existingSecret"),
        ({"gateway": {"settings": {"drain_s": 5}}}, "gateway.settings.drain_s is set by the chart"),
        ({"autoscaling": {"enabled": True, "queueRequests": 0, "cpuPercent": 0}}, "needs queueRequests or cpuPercent"),
        ({"triton": {"maxBatch": 30}}, "maxBatch"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(
    values: dict[str, Any], said: str, render: Callable[..., Any], helm_error: type[Exception]
) -> None:
    with pytest.raises(helm_error, match=re.escape(said)):
        render(**values)


def test_every_value_is_described_by_the_schema_and_used() -> None:
    import json

    schema = json.loads((CHART / "values.schema.json").read_text())
    texts = "".join(file.read_text() for file in (CHART / "templates").rglob("*") if file.is_file())
    for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
        node = schema
        for part in path:
            if node.get("additionalProperties", {}) is not False and "properties" not in node:
                break
            assert part in node["properties"], ".".join(path)
            node = node["properties"][part]
        assert path[-1] in texts, ".".join(path)


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_the_notes_say_how_to_make_the_keys(render: Callable[..., Any]) -> None:
    notes = render().notes
    (line,) = [line for line in notes.splitlines() if "create secret" in line]
    words = shlex.split(line)
    assert words[words.index("generic") + 1] == "maskmend-api-keys"
    assert "may use it" in render(**BARE).notes


def test_versions_agree() -> None:
    from importlib.metadata import version

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version("maskmend")
