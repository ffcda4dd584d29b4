"""Tests of attributions: classifiers, attribution maps and controls, five tests, and verdicts on the claims."""
