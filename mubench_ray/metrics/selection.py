"""By what a configuration is chosen, where nothing else is said."""

#: Deep Unlearn's four losses and their weights (arXiv 2410.01276): none of them reads D_Test.
OBJECTIVES = {"retain_gap": 1 / 3, "forget_gap": 1 / 3, "validation_gap": 1 / 3, "indisc_validation": 1.0}
