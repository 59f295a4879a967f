"""Knative's own webhooks, controller and autoscaler as processes, in a private network namespace with a node.

`session` runs the tests of the tier inside the namespace that `netns` makes, `bed` starts the processes there,
`bridge` lets two of them have a port that is fixed in their code, `node` plays kubelet and ingress.
"""
