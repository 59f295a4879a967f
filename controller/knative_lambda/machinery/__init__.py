"""Our controller-runtime: informers, work queue, runner, Lease election, fence, event recorder. Knows no domain."""
