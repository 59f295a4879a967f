"""What users write and see: custom resources, conditions, phases, events, labels. Pure: no input, no output."""
