"""Real servers for the tests: etcd, kube-apiserver, kube-controller-manager, RabbitMQ and a git server.

Plain processes on free loopback ports, each with its own folder, several side by side. `fixtures` gives
them to pytest, `python -m tests.testbed up` to a person with kubectl. Everything ends with its owner; what
an owner that was killed left behind is ended by the next start (`processes`).
"""
