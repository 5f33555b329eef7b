//! Answers, counts and notes: the only place that speaks HTTP outward.
