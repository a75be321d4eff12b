"""What is deployed and what is written of it, against the server: metrics, options, paths and ports that they name."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import typer
import yaml
from fake_service import FakeService
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.api.app import create_app
from headrace.api.settings import ApiSettings
from headrace.cli.app import app as command_line

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "headrace.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNIT = (DEPLOY / "headrace.service").read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return create_app(FakeService(), ApiSettings(data_folder=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def families(served):
    """Metrics by the names that their samples have."""
    text = generate_latest(served.state.context.metrics.registry).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        names = {
            "counter": [f"{family.name}_total"],
            "histogram": [f"{family.name}_{part}" for part in ("bucket", "sum", "count")],
        }
        found.update(dict.fromkeys(names.get(family.type, [family.name]), family))
        found.setdefault(family.name, family)
    return found


def options_of(name):
    commands = typer.main.get_command(command_line).commands
    parts = name.split()
    command = commands[parts[0]]
    for part in parts[1:]:
        command = command.commands[part]
    return {option: parameter for parameter in command.params for option in parameter.opts}


def expressions():
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    asked = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    variables = [(one["name"], one["query"]["query"]) for one in DASHBOARD["templating"]["list"]]
    rules = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
    return asked + variables + rules


def test_every_metric_that_is_asked_for_exists(families):
    for title, expression in expressions():
        names = set(re.findall(r"\bheadrace_\w+", expression))
        assert names, title
        for name in names:
            assert name in families, f"{title}: {name}"
            family = families[name]
            rated = re.search(rf"(rate|increase)\({name}\b", expression)
            assert bool(rated) == (family.type in ("counter", "histogram") and not title.startswith("Faults")), title


def labels_of(served):
    """Of the metrics that have any, by the names that are asked for."""
    metrics = served.state.context.metrics
    found = {}
    for collector in (
        metrics.requests, metrics.http_seconds, metrics.refusals, metrics.batch_rows, metrics.controller,
    ):  # fmt: skip
        (family,) = collector.describe()
        found[family.name] = collector._labelnames
    return found


def test_labels_that_are_asked_for_exist(served, families):
    labels = labels_of(served)
    for title, expression in expressions():
        asked = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")} - {"le"}
        for name in re.findall(r"\bheadrace_\w+", expression):
            assert asked <= set(labels.get(families[name].name, ())), title


def test_the_page_of_operations_explains_every_metric_and_no_other(families):
    named = {name.partition("{")[0] for name in re.findall(r"`(headrace_[\w{},]+)`", OPERATIONS)}
    for name in named:
        assert name in families, name
    told = {families[name].name for name in named}
    own = {family.name for family in families.values() if not family.name.endswith("_created")}
    process = {name for name in own if name.startswith("headrace_http_process")}
    assert own - told <= process


def test_labels_on_the_page_of_operations_are_the_metrics_own(served, families):
    labels = labels_of(served)
    for name, written in re.findall(r"`(headrace_\w+)\{([\w,]+)\}`", OPERATIONS):
        assert tuple(written.split(",")) == labels[families[name].name]


def test_every_option_on_the_page_of_operations_exists():
    foreign = {"--build", "--head", "--address", "--shm-size", "--now"}  # of docker, ray and systemctl
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", OPERATIONS)) - foreign
    assert named <= set(options_of("serve")) | {"--rates", "--out", "--quick", "--model"}  # the rest stand with theirs
    written = re.findall(r"headrace ((?:serve|calibrate|simulate|generate|load|bench|tune)\b[^\n`#]*)", OPERATIONS)
    assert len(written) > 10
    for command in written:
        words = command.split()
        known = options_of(" ".join(words[: 2 if words[0] == "calibrate" else 1]))
        assert {word for word in words if word.startswith("--")} <= set(known), command


def test_numbers_on_the_page_of_operations_are_the_defaults():
    serve = options_of("serve")
    assert f"`--max-wait` ({serve['--max-wait'].default:g} s)" in OPERATIONS
    assert f"`--slots` ({serve['--slots'].default})" in OPERATIONS
    assert f"`--drain` seconds ({serve['--drain'].default:g})" in OPERATIONS
    limits = ApiSettings().batches
    assert f"kept for {limits.retention_s // 86_400} days, {limits.stored_bytes // 10**9} GB at most" in OPERATIONS


def test_paths_on_the_page_of_operations_exist(served):
    paths = set(served.openapi()["paths"])
    for path in re.findall(r"`(?:[A-Z]+ )?(/(?:v1|healthz|readyz|metrics)[\w/{}]*)`", OPERATIONS):
        assert path in paths, path


def test_files_that_are_named_are_there():
    for name in re.findall(r"`?\b((?:deploy|docs)/[\w./-]+\.\w+)", OPERATIONS + DOCKERFILE + UNIT):
        assert (ROOT / name).is_file(), name


def test_the_dashboard_is_whole():
    panels = DASHBOARD["panels"]
    numbers = Counter(panel["id"] for panel in panels)
    assert max(numbers.values()) == 1
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] in range(25 - place["w"])
        assert panel["title"]
        assert panel["type"] == "row" or (panel["description"] and panel["targets"])
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert used == {source["uid"] for source in sources}
    covered = {target["expr"] for panel in panels if panel["type"] != "row" for target in panel["targets"]}
    for metric in (
        "queue_length", "rows_total", "batch_rows_sum", "unet_seconds_total", "vae_seconds_total",
        "picture_seconds_bucket", "refusals_total", "restarts_total",
    ):  # fmt: skip
        assert any(f"headrace_{metric}" in expression for expression in covered), metric


def test_compose_starts_the_server_with_options_that_it_has():
    server = COMPOSE["services"]["headrace"]
    given = [word for word in server["command"] if word.startswith("--")]
    assert set(given) <= set(options_of("serve"))
    drain = float(server["command"][server["command"].index("--drain") + 1])
    assert float(server["stop_grace_period"].rstrip("s")) >= drain + 10
    assert all(port.startswith("127.0.0.1:") for one in COMPOSE["services"].values() for port in one["ports"])
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()
    for one in COMPOSE["services"].values():
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert "latest" not in one["image"].partition(":")[2]


def test_prometheus_reads_the_server_and_grafana_reads_prometheus(served):
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    ((target,),) = [one["targets"] for one in job["static_configs"]]
    server = COMPOSE["services"]["headrace"]
    assert target == f"headrace:{server['ports'][0].rsplit(':', 1)[1]}"
    assert job["metrics_path"] in served.openapi()["paths"]
    mounted = {
        volume.split(":")[1]: DEPLOY / volume.split(":")[0] for volume in COMPOSE["services"]["prometheus"]["volumes"]
    }
    for file in config["rule_files"]:
        assert (mounted[str(Path(file).parent)] / Path(file).name).is_file()
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert sources[0]["url"] == f"http://prometheus:{COMPOSE['services']['prometheus']['ports'][0].rsplit(':', 1)[1]}"
    folders = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/headrace.yml").read_text())["providers"]
    grafana = COMPOSE["services"]["grafana"]
    assert any(volume.split(":")[1] == folders[0]["options"]["path"] for volume in grafana["volumes"])
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].startswith(folders[0]["options"]["path"])


def test_the_image_starts_the_server_as_it_is_called(served):
    entry = json.loads(re.search(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.M).group(1))
    assert entry[:2] == ["headrace", "serve"]
    assert {word for word in entry if word.startswith("--")} <= set(options_of("serve"))
    port = re.search(r"^EXPOSE (\d+)$", DOCKERFILE, re.M).group(1)
    assert entry[entry.index("--port") + 1] == port
    path = re.search(rf"127\.0\.0\.1:{port}(/\w+)", DOCKERFILE).group(1)
    assert path in served.openapi()["paths"]
    assert re.search(r"^USER 10001", DOCKERFILE, re.M)
    ignored = (ROOT / ".dockerignore").read_text().split()
    for copied in re.findall(r"^COPY ([^-].*) \S+$", DOCKERFILE, re.M):
        for name in copied.split():
            assert f"!{name.removeprefix('./')}" in ignored
            assert (ROOT / name).exists()
    extras = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.M).group(1)
    assert f"\n{extras} = [" in (ROOT / "pyproject.toml").read_text()
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.M)


@pytest.mark.parametrize("device", ["cpu", "cuda", "tpu"])
def test_the_image_installs_the_versions_that_are_tested(device, tmp_path):
    """Its script, with a pip that only says what it was told."""
    script = re.search(r"^RUN (set -eu;.*?[^\\])\n\n", DOCKERFILE, re.M | re.S).group(1).replace("\\\n", "\n")
    script = script.replace("/opt/headrace/bin/pip", "echo pip")
    variables = {"DEVICE": device, "EXTRAS": "serve,cluster", "TORCH_CPU": "https://torch.example/cpu"}
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True)
    if device == "tpu":
        assert done.returncode == 1
        assert "give cpu or cuda" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.M).group()
    lines = done.stdout.splitlines()
    alone = [f"pip install --no-deps --index-url https://torch.example/cpu {torch}"] if device == "cpu" else []
    assert lines == [*alone, "pip install -c constraints.txt .[serve,cluster]"]


def test_the_unit_drains_before_it_is_killed():
    start = re.search(r"^ExecStart=(.*)$", UNIT, re.M).group(1)
    given = set(re.findall(r"(?<!\S)--[a-z-]+", start))
    assert given <= set(options_of("serve"))
    drain = float(re.search(r"--drain (\d+)", start).group(1))
    assert float(re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.M).group(1)) > drain + 10
    for line in ("KillSignal=SIGTERM", "DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes"):
        assert f"\n{line}\n" in UNIT


def test_alerts_say_what_is_wrong():
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert all(rule["alert"].startswith("Headrace") and rule["annotations"]["summary"] for rule in rules)
    assert len({rule["alert"] for rule in rules}) == len(rules)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path / "headrace.service"
    unit.write_text(UNIT.replace("/opt/headrace/bin/headrace", shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
