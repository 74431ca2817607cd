"""Threads, precision and memory."""

import platform
import resource

import pytest
import torch

import lmclib as lmc
from lmclib.device import full_precision, keep_freed_memory


def test_float32_is_without_tf32_and_what_was_set_comes_back():
    flags = torch.backends.cudnn
    before = flags.allow_tf32
    with full_precision():
        assert not flags.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert flags.allow_tf32 == before


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="precision"):
        lmc.ForkSpec(precision="fp8")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs Linux's C library")
def test_a_large_tensor_is_freed_and_made_again_without_new_pages():
    assert keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)  # 64 MB, 16,384 pages
    # not every time: aligned blocks leave gaps between them at first
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * 16_384
