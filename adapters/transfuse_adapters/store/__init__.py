"""Packed stores: a data set's documents, raw or encoded, as flat arrays in zarr version 3, in parts.

``places`` files of a folder or a bucket; ``arrays`` zarr arrays in shards; ``manifests`` what parts and stores say of
themselves; ``records`` documents as rows of tables; ``writer``, ``reader``, ``tools``; ``encoding`` what codecs give.
"""
