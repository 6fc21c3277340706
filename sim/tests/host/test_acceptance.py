"""The acceptance list A1 to A12 of the host stack (host-software reference, 6.1): which tests hold which item, and that
the scenarios are what they say.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ACCEPTANCE = {
    "A1": (
        "test_bind.test_host_bind_refuses_bad_data",
        "test_bind.test_host_bind_refuses_unfit_devices",
        "test_bind.test_host_bind_refuses_what_the_unit_lacks",
        "test_lost_device.test_host_lost_device_is_refused_and_comes_back",
    ),
    "A2": (
        "test_double_bind.test_host_double_bind_policy",
        "test_double_bind.test_host_concurrent_binds_have_one_winner",
    ),
    "A3": ("test_lifecycle.test_host_bind_dma_unbind_fault",),
    "A4": ("test_page_request_storms.test_host_page_request_storm_during_unbind",),
    "A5": ("test_pasid_end.test_host_interleavings_of_bind_dma_free_and_unbind",),
    "A6": (
        "test_fail_nth.test_host_fail_nth_leaves_the_state_of_before",
        "test_fail_nth.test_host_fail_nth_can_be_repeated",
        "test_scenario_pasid.test_scenario_iommufd_fail_nth_device",
    ),
    "A7": ("test_page_requests.test_host_guests_fault_pages_in", "test_lifecycle.test_host_random_life"),
    "A8": ("test_aux_domain.test_host_mdev_leaks_are_impossible_and_noticed",),
    "A9": (
        "test_ownership.test_host_ownership_of_two_paths",
        "test_scenario_vfio.test_scenario_vfio_setup_get_info_without_bind_fails",
    ),
    "A10": (
        "test_scenario_pasid.test_scenario_pasid_attach_phase_1",
        "test_scenario_pasid.test_scenario_pasid_attach_phase_8",
        "test_scenario_nested.test_scenario_iommufd_nested_invalidate_partial",
    ),
    "A11": ("test_historical.test_historical_bugs_of_the_acceptance_list_are_in_the_table",),
    "A12": ("test_historical.test_historical_everyday_life_of_the_right_driver_is_clean",),
}
SUITES = re.compile(r"(Linux selftest \w+\.c|QEMU qtest [\w-]+|kvm-unit-tests [\w/.-]+), \S")


@pytest.mark.parametrize("item", ACCEPTANCE)
def test_host_acceptance_item_is_held(item: str):
    """Each test of the table is there, and a run with ``-k "host or scenario or historical"`` selects it."""
    for name in ACCEPTANCE[item]:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(f"sim.tests.host.{module}"), function))
        assert re.match("test_(host|scenario|historical)_", function)


def test_host_scenarios_name_their_suites():
    """At least 60, and each says of which suite and case it is."""
    scenarios = []
    for path in sorted(Path(__file__).parent.glob("test_scenario_*.py")):
        module = importlib.import_module(f"sim.tests.host.{path.stem}")
        functions = inspect.getmembers(module, inspect.isfunction)
        scenarios += [each for name, each in functions if name.startswith("test_scenario_")]
    for scenario in scenarios:
        words = " ".join((scenario.__doc__ or "").split())
        assert SUITES.match(words), f"{scenario.__name__}: {words}"
    assert len(scenarios) >= 60
