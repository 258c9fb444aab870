"""What came out: the record, the ledger, artifacts."""
