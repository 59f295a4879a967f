"""Events to functions or dead letters: what the RabbitMQ Broker does in a cluster."""
