"""Operators that compute nothing: they make, move, select or describe data. They cost bytes, not operations."""

from __future__ import annotations

_MAKE = """
arange bartlett_window bernoulli binomial blackman_window cauchy empty empty_like empty_permuted empty_strided
exponential eye fft_fftfreq fft_rfftfreq fill full full_like geometric hamming_window hann_window kaiser_window
linspace log_normal logspace multinomial new_empty new_empty_strided new_full new_ones new_zeros normal
normal_functional ones ones_like poisson rand rand_like randint randint_like randn randn_like random randperm range
scalar_tensor tril_indices triu_indices uniform zero zeros zeros_like _sample_dirichlet _standard_gamma
"""

_MOVE = """
block_diag cat channel_shuffle clone column_stack combinations concat concatenate constant_pad_nd contiguous copy
diag_embed diagonal_scatter dstack embedding flip gather hstack im2col index index_copy index_fill index_select
masked_fill masked_scatter masked_select max_unpool2d max_unpool3d meshgrid one_hot pad pad_sequence pin_memory
pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
replication_pad1d replication_pad2d replication_pad3d resolve_conj resolve_neg roll rot90 scatter select_scatter
slice_scatter stack take take_along_dim tile to tril triu type_as upsample_nearest1d upsample_nearest2d
upsample_nearest3d vstack where _chunk_cat _copy_from _lazy_clone _pack_padded_sequence _pad_packed_sequence
_pin_memory _reshape_copy _stack _to_copy _unsafe_index _upsample_nearest_exact1d _upsample_nearest_exact2d
_upsample_nearest_exact3d as_strided_scatter diagonal_backward select_backward slice_backward masked_scatter_backward
nll_loss_backward nll_loss2d_backward
"""

_VIEW = """
_conj _neg_view _reshape_alias _unsafe_view adjoint alias as_strided atleast_1d atleast_2d atleast_3d
broadcast_tensors broadcast_to chunk data detach diagonal expand expand_as flatten item _local_scalar_dense lift
lift_fresh movedim moveaxis narrow permute positive ravel refine_names rename reshape reshape_as requires_grad resize
resize_as select set slice split split_with_sizes squeeze swapaxes swapdims t transpose unbind unflatten unfold
unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as view_as_complex view_as_real _assert_async
_functional_assert_async
"""

# Plain names in the namespaces aten and prim: without the underscore of in-place variants.
FREE = frozenset((_MAKE + _MOVE + _VIEW).split())
