//! A software GPU that executes PTX
