//! The judge on a real teacher's rationales from eight perspectives.
