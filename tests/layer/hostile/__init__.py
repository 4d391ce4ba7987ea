"""The corpus: tars that mean harm, each made by a function that is named after the weakness.

The functions stand in the modules beside this one, by what they abuse; `CORPUS` has them all. Each gets
the path of the canary, a tree beside the layer (always ``../canary`` from a layer's root), and returns
an `Attack`. `tests.layer.test_hostile` runs each of them in each form, upon nothing and upon a parent.
"""
