"""A LambdaFunction -> its children: observe, decide, act, report. The screen to read first is `loop`."""
