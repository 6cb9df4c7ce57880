"""Operators that compute nothing: they make, move, select, sort or describe data. They cost bytes, not operations."""

from __future__ import annotations

_MAKE = """
arange bernoulli cauchy_ empty empty_like empty_permuted empty_strided exponential eye fill full full_like geometric
linspace log_normal logspace multinomial new_empty new_empty_strided new_full new_ones new_zeros normal ones ones_like poisson
rand rand_like randint randint_like randn randn_like random randperm scalar_tensor tril_indices triu_indices uniform zero
zeros zeros_like
"""

_MOVE = """
_copy_from _pack_padded_sequence _pad_packed_sequence _pin_memory _to_copy block_diag cat channel_shuffle clone combinations
concat concatenate constant_pad_nd contiguous copy diag_embed embedding embedding_renorm flip gather hstack vstack dstack
column_stack im2col index index_copy index_fill index_put index_select masked_fill masked_scatter masked_select meshgrid one_hot pad pad_sequence
pin_memory pixel_shuffle pixel_unshuffle put reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
replication_pad1d replication_pad2d replication_pad3d resolve_conj resolve_neg roll rot90 scatter select_scatter
slice_scatter diagonal_scatter stack take take_along_dim tile to tril triu type_as upsample_nearest1d upsample_nearest2d upsample_nearest3d
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d where
"""

_SELECT = """
argsort argwhere bincount bucketize equal histc isin nonzero nonzero_numpy nonzero_static searchsorted sort topk unique unique_consecutive
unique_dim _unique _unique2 msort all any
"""

_VIEW = """
_reshape_alias _unsafe_view adjoint alias as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to chunk
detach diagonal expand expand_as flatten item _local_scalar_dense lift lift_fresh movedim moveaxis narrow permute ravel
refine_names rename reshape reshape_as select set slice split split_with_sizes squeeze swapaxes swapdims t transpose unbind
unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as view_as_complex view_as_real
"""

_DESCRIBE = """
_assert_async _assert_scalar _assert_tensor_metadata _has_compatible_shallow_copy_type _has_same_storage_numel _version can_cast data dim
is_complex is_conj is_contiguous is_floating_point is_inference is_leaf is_neg is_nonzero is_same_size is_signed numel output_nr record_stream
requires_grad resize resize_as result_type retains_grad size storage_offset stride sym_numel sym_size sym_storage_offset
sym_stride sym_is_contiguous
"""

# Plain names in the namespaces aten and prim: without the underscore of in-place variants.
MAKING_OR_MOVING = frozenset((_MAKE + _MOVE + _SELECT).split())
VIEWING = frozenset((_VIEW + _DESCRIBE).split())
