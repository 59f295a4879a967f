"""Every resource of the API server that this project reads or writes."""

from __future__ import annotations

from knative_lambda.api.meta import GROUP, VERSION, Kind

LAMBDA_FUNCTION = Kind(GROUP, VERSION, "lambdafunctions", "LambdaFunction")
FUNCTION_REPOSITORY = Kind(GROUP, VERSION, "functionrepositories", "FunctionRepository")

JOB = Kind("batch", "v1", "jobs", "Job")
POD = Kind("", "v1", "pods", "Pod")
SECRET = Kind("", "v1", "secrets", "Secret")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
EVENT = Kind("events.k8s.io", "v1", "events", "Event")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

SERVICE = Kind("serving.knative.dev", "v1", "services", "Service")
"""Knative Service; the core Service is not ours to write."""
TRIGGER = Kind("eventing.knative.dev", "v1", "triggers", "Trigger")
BROKER = Kind("eventing.knative.dev", "v1", "brokers", "Broker")
RABBITMQ_BROKER_CONFIG = Kind("eventing.knative.dev", "v1alpha1", "rabbitmqbrokerconfigs", "RabbitmqBrokerConfig")
"""Which RabbitMQ is behind a Broker of class RabbitMQBroker."""

EXCHANGE = Kind("rabbitmq.com", "v1beta1", "exchanges", "Exchange")
QUEUE = Kind("rabbitmq.com", "v1beta1", "queues", "Queue")
BINDING = Kind("rabbitmq.com", "v1beta1", "bindings", "Binding")
POLICY = Kind("rabbitmq.com", "v1beta1", "policies", "Policy")
"""Objects of RabbitMQ's messaging topology operator."""

ALL = (
    LAMBDA_FUNCTION, FUNCTION_REPOSITORY, JOB, POD, SECRET, CONFIG_MAP, EVENT, LEASE, NAMESPACE,
    CUSTOM_RESOURCE_DEFINITION, SERVICE, TRIGGER, BROKER, RABBITMQ_BROKER_CONFIG, EXCHANGE, QUEUE, BINDING,
    POLICY,
)  # fmt: skip
