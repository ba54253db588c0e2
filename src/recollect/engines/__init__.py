"""Vector databases: one port (`base`), one module or package per product.

An adapter turns a product's records into columnar batches and back, and its errors into ours.
"""
