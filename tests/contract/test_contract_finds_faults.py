"""The published contract fails for storages that are wrong, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract import faulty_storages as faulty
from triggers.testing import StorageContract
from triggers.testing.suite import StorageSuite

BY_RECOVERY = "test_sessions_that_recovery_is_to_look_at_are_listed_those_due_for_longest_first"
BY_DEADLINE = "test_sessions_with_deadlines_are_listed_those_due_for_longest_first"
UNTIL = "test_sessions_are_listed_whose_deadlines_are_not_later_than_a_moment"
MARKS = "test_a_session_in_which_only_a_hook_was_not_called_is_listed"
PAGES = "test_sessions_are_listed_page_by_page_each_once"
DELETING = "test_deleting_waits_for_whoever_is_changing_the_session"
DELETED = "test_what_is_deleted_under_the_lock_does_not_come_back_at_its_end"
ANEW = "test_a_session_may_begin_anew_under_the_lock_under_which_it_was_deleted"
TORN = "test_who_reads_without_the_lock_never_sees_half_of_what_was_saved"
OPTIONS = "test_its_options_make_the_same_storage_in_another_process"

FAULTS = [
    (faulty.ByUid, BY_RECOVERY, "due for longest must come first"),
    (faulty.ByUid, BY_DEADLINE, "due for longest must come first"),
    (faulty.Unlimited, BY_RECOVERY, "at most 1 were asked for"),
    (faulty.Unlimited, BY_DEADLINE, "at most 1 were asked for"),
    (faulty.AlwaysNow, UNTIL, None),
    (faulty.Markless, MARKS, r'what is in metas\["pending"\] is due'),
    (faulty.SamePage, PAGES, "must begin after the uid"),
    (faulty.DeletesWithoutLock, DELETING, r"delete\(\) did not take the lock"),
    (faulty.DeletesWithoutLock, DELETED, None),
    (faulty.DeletesNothing, DELETED, None),
    (faulty.InTwoFiles, TORN, "a reader has seen half a save"),
    (faulty.Elsewhere, OPTIONS, "open other sessions"),
    (faulty.WithoutArgument, OPTIONS, "every argument of __init__"),
    (faulty.OptionsOfPath, OPTIONS, "plain JSON"),
]


@pytest.mark.django_db(transaction=True)
class TestContract(StorageSuite):
    """It has the runners of the suite, and calls single tests of a contract."""

    def contract_of(self, cls: type, folder: Path) -> StorageContract:
        body = {"storage": f"{cls.__module__}:{cls.__name__}", "options": {"folder": str(folder)}}
        contract: StorageContract = type("Contract", (StorageContract,), body)()
        return contract

    @pytest.mark.parametrize(("cls", "test", "message"), FAULTS)
    def test_a_fault_is_found(
        self, cls: type, test: str, message: str | None, tmp_path: Path
    ) -> None:
        with pytest.raises(AssertionError, match=message):
            getattr(self.contract_of(cls, tmp_path), test)()

    @pytest.mark.parametrize("test", sorted({test for _cls, test, _message in FAULTS} | {ANEW}))
    def test_a_storage_without_a_fault_passes(self, test: str, tmp_path: Path) -> None:
        getattr(self.contract_of(faulty.Listing, tmp_path), test)()
