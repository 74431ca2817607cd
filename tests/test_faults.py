"""A few of all faults that `make faults` counts in full."""

import faults


def test_a_run_that_is_killed_at_random_moments_ends_bit_for_bit(tmp_path):
    # how many runs it takes to be killed so often is a matter of the machine's speed
    assert "runs ended bit for bit" in faults.kills(3, tmp_path)


def test_every_damaged_file_is_detected(tmp_path):
    assert faults.damaged(25, tmp_path).startswith("all detected, 0 read as good (5 truncated, 5 flipped, 5 emptied")


def test_two_processes_that_ask_for_the_same_runs_train_each_once(tmp_path):
    assert "each made once" in faults.asked_at_once(2, tmp_path, seeds=2)


def test_a_sweep_survives_a_killed_worker(tmp_path):
    assert "complete, equal to one process" in faults.worker_killed(1, tmp_path, workers=2, seeds=2, epochs=3)


def test_a_sweep_whose_scheduler_is_killed_says_so_and_goes_on(tmp_path):
    assert "the next start: complete" in faults.scheduler_killed(1, tmp_path, workers=1, seeds=1, epochs=3, own=1)


def test_a_sweep_on_a_full_disk_says_so_and_goes_on(tmp_path):
    assert "all of them whole" in faults.disk_full(2, tmp_path)


def test_hostile_files_are_refused(tmp_path):
    count, _ = faults.hostile(tmp_path)
    assert count >= 40
