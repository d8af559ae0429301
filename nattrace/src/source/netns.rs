//! Network namespaces: names, numbers, entering them.
