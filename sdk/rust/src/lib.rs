//! The researcher's client: discover, quote, buy, query, verify receipts.
