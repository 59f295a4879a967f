"""One valid document of every kind, for docs/api and for whoever wants to begin with something that works."""

from __future__ import annotations

import json
from typing import Any

from knative_lambda.api import events
from knative_lambda.api.events import Category, EventType

FUNCTION = """\
apiVersion: lambda.knative.io/v1alpha1
kind: LambdaFunction
metadata:
  name: resize
  namespace: shop
spec:
  source:
    type: git
    git:
      url: https://github.com/me/functions.git
      ref: main
      path: functions/resize
      secretRef: {name: github}           # username and password, or identity and known_hosts
  runtime:
    language: python
    version: "3.13"
    handler: main.handler                 # file main.py, function handler
  scaling:
    minReplicas: 0
    maxReplicas: 20
    targetConcurrency: 5
    scaleToZeroGracePeriod: 1m
  resources:
    requests: {memory: 64Mi, cpu: 100m}
    limits: {memory: 256Mi, cpu: "1"}
  env:
  - {name: WIDTH, value: "800"}
  - {name: API_KEY, valueFrom: {secretKeyRef: {name: resize, key: apiKey}}}
  triggers:
  - broker: default
    filter:
      type: com.example.picture.uploaded
      attributes: {tenant: acme}
  build:
    timeout: 10m
    registry: ghcr.io/me/resize
    imagePullSecret: ghcr
"""

FUNCTION_YAML = """\
# yaml-language-server: $schema=../../../schemas/function.schema.json
spec:
  runtime: {language: python}
"""

REPOSITORY = """\
apiVersion: lambda.knative.io/v1alpha1
kind: FunctionRepository
metadata:
  name: functions
  namespace: shop
spec:
  url: https://github.com/me/functions.git
  ref: {branch: main}
  path: functions                         # only below this directory
  interval: 1m                            # a webhook makes it immediate
  secretRef: {name: github}
  webhook:
    secretRef: {name: github-webhook}     # key token
"""

EVENT_DATA: dict[Category, dict[str, Any]] = {
    Category.FUNCTION: {
        "name": "resize",
        "namespace": "shop",
        "spec": {"source": {"type": "inline"}, "runtime": {"language": "python"}},
    },
    Category.BUILD: {
        "function_name": "resize",
        "namespace": "shop",
        "build_id": "3f1c9a0b7d",
        "job_name": "resize-build-3f1c9a0b7d",
        "image_uri": "ghcr.io/me/resize@sha256:" + "0" * 64,
        "status": "completed",
        "duration_seconds": 41.5,
    },
    Category.SERVICE: {
        "service_name": "resize",
        "namespace": "shop",
        "url": "http://resize.shop.svc.cluster.local",
        "status": {"ready": True},
    },
    Category.STATUS: {
        "function_name": "resize",
        "namespace": "shop",
        "phase": "Ready",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
        "health_status": "healthy",
    },
    Category.PARSER: {
        "parser_id": "exif",
        "function_name": "resize",
        "execution_id": "0b6e1f52",
        "status": "completed",
        "duration_ms": 12.5,
    },
}


def event(kind: EventType) -> dict[str, Any]:
    """A whole CloudEvent of that type in structured JSON mode."""
    data = dict(EVENT_DATA[kind.category])
    outcome = kind.value.rsplit(".", 1)[1]
    if kind.category in (Category.BUILD, Category.PARSER):
        data["status"] = outcome
    return {
        "specversion": "1.0",
        "id": "6f7d1c9e",
        "source": events.SOURCE,
        "type": kind.value,
        "subject": "shop/resize",
        "time": "2026-01-01T12:00:00Z",
        "datacontenttype": "application/json",
        "lambdacategory": kind.category.value,
        "correlationid": "2c1e7a44",
        "data": data,
    }


def event_text(kind: EventType) -> str:
    """The same as text for a page."""
    return json.dumps(event(kind), indent=2, ensure_ascii=False)
