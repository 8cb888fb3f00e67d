//! darkbloom
