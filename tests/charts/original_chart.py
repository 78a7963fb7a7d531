"""A chart that installs what the original's installed, written from the contract: what ours is an upgrade of."""

from __future__ import annotations

from pathlib import Path

import yaml
from tests.charts import goldens
from tests.charts.chart import Obj
from tests.deploy import original

NAME = "aad-pod-identity"


def write(folder: Path, version: str) -> Path:
    """Write the chart of ``version`` into ``folder``; its values are those of 4.1.18."""
    chart = folder / f"{NAME}-{version}"
    (chart / "templates").mkdir(parents=True)
    (chart / "crds").mkdir()
    about = {"apiVersion": "v2", "name": NAME, "version": version, "description": "the original"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    (chart / "values.yaml").write_text(yaml.safe_dump(goldens.given("original-4")))
    (chart / "crds" / "crd.yaml").write_text(yaml.safe_dump_all([original.ASSIGNED_CRD, *original.CRDS]))
    objects = [*_component("nmi", version), *_component("mic", version), *_exceptions()]
    (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return chart


def _labels(component: str, version: str = "") -> dict[str, str]:
    selector = {
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/instance": "{{ .Release.Name }}",
        "app.kubernetes.io/component": component,
    }
    chart = {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": f"{NAME}-{version}"} if version else {}
    return {**selector, **chart}


def _component(component: str, version: str) -> list[Obj]:
    name = f"{NAME}-{component}"
    here = {"name": name, "labels": _labels(component, version), "namespace": "{{ .Release.Namespace }}"}
    everywhere = {key: value for key, value in here.items() if key != "namespace"}
    account = {**original.account(component, ""), "metadata": here}
    role = {**(original.nmi_role() if component == "nmi" else original.mic_role()), "metadata": everywhere}
    binding = {**original.role_binding(component, "{{ .Release.Namespace }}"), "metadata": everywhere}
    binding["roleRef"] |= {"name": name}
    binding["subjects"][0] |= {"name": name}
    workload = (
        original.daemon_set("", (*original.NMI_ARGS, *original.SCALE_ARGS))
        if component == "nmi"
        else original.deployment("")
    )
    tier = {"tier": "node"} if component == "nmi" else {}
    workload["metadata"] = {**here, "labels": {**here["labels"], **tier}}
    workload["spec"]["selector"] = {"matchLabels": _labels(component)}
    template = workload["spec"]["template"]
    template["metadata"] = {"labels": {**_labels(component, version), **tier}}
    template["spec"]["serviceAccountName"] = name
    image = f"{{{{ .Values.image.repository }}}}/{component}:{{{{ .Values.{component}.tag }}}}"
    template["spec"]["containers"][0]["image"] = image
    return [account, role, binding, workload]


def _exceptions() -> list[Obj]:
    mic, addon = original.exceptions()
    mic["metadata"] = {"name": "mic", "namespace": "{{ .Release.Namespace }}"}
    mic["spec"]["podLabels"]["app.kubernetes.io/component"] = "mic"
    return [mic, addon]
