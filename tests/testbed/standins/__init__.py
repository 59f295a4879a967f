"""Stand-ins for what a bare API server lacks: a kubelet for build Jobs, and Knative's controllers.

They speak only to the API server, as the real ones do, and know nothing of this project. Each runs in a thread
of the tests, or all of them in a process of their own (`python -m tests.testbed.standins --kubeconfig FILE`),
so that a benchmark does not charge their work to the controller.
"""

from tests.testbed.standins.knative import Knative, ServiceOutcome
from tests.testbed.standins.kubelet import Kubelet, PodOutcome

__all__ = ["Knative", "Kubelet", "PodOutcome", "ServiceOutcome"]
