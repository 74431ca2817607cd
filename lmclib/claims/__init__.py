"""The rules of the ledger as code, a file a group of chapters: from a chapter's tables to what `judge` needs."""
