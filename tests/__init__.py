"""Tests of Knative Lambda, and the test bed that they run on."""
