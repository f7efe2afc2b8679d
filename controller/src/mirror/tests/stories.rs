//! Single stories that the model tells too rarely or not at all.
