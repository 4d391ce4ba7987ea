"""The corpus of hostile tars, each made by a function that is named after the vulnerability.

The functions are in the modules of this package, by their means; `CORPUS` has them all. Each gets the
path of the canary, a tree next to the layer (always ``../canary`` from a layer's root), and returns an
`Attack`. `tests.layer.test_hostile` runs each of them in each form, without a parent and on a parent.
"""
