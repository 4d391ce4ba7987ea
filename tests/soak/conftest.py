"""Failed assertions in the modules beside the tests show their values, too."""

import pytest

pytest.register_assert_rewrite("tests.soak.engines")
