"""CloudEvents out: the port (`base`), its RabbitMQ adapter and its memory twin, and the encoding."""
