//! The one database (SQLite, WAL): schema, migrations, transactions and typed tables.
#![forbid(unsafe_code)]
