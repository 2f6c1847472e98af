"""A reader of the backup format, version 1, written from docs/format.md alone.

In reading order: `errors`, `cid`, `dag_cbor`, `sealing`, `age`, `root`, `tree`, `source`, `target`.
Nothing here talks to a network, writes over a file, or trusts a length before it is checked.
"""
