//! Counters, declared once: the macro gives the fields, their sums, their differences and their words.

/// A field of a set of counters: one number, or one for each of several reasons.
pub trait Counter: Copy {
    /// Adds another one.
    fn add(&mut self, other: Self);
    /// The difference to an earlier one; never below 0.
    #[must_use]
    fn since(self, earlier: Self) -> Self;
    /// The sum over all reasons.
    fn total(self) -> u64;
}

impl Counter for u64 {
    #[inline]
    fn add(&mut self, other: Self) {
        *self += other;
    }

    #[inline]
    fn since(self, earlier: Self) -> Self {
        self.saturating_sub(earlier)
    }

    #[inline]
    fn total(self) -> u64 {
        self
    }
}

impl<const REASONS: usize> Counter for [u64; REASONS] {
    #[inline]
    fn add(&mut self, other: Self) {
        self.iter_mut().zip(other).for_each(|(sum, count)| *sum += count);
    }

    #[inline]
    fn since(mut self, earlier: Self) -> Self {
        self.iter_mut().zip(earlier).for_each(|(now, then)| *now = now.saturating_sub(then));
        self
    }

    fn total(self) -> u64 {
        self.iter().sum()
    }
}

/// Declares a set of cumulative counters; each field's name is its word for Python.
#[macro_export]
macro_rules! counters {
    ($(#[$about:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Each counter's word and its total over all reasons.
            pub fn words(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), $crate::counters::Counter::total(self.$field)),)*].into_iter()
            }
        }

        impl std::ops::AddAssign<&$name> for $name {
            fn add_assign(&mut self, other: &$name) {
                $($crate::counters::Counter::add(&mut self.$field, other.$field);)*
            }
        }

        impl std::ops::Sub for $name {
            type Output = $name;

            /// The interval from `earlier` to this.
            fn sub(self, earlier: $name) -> $name {
                $name { $($field: $crate::counters::Counter::since(self.$field, earlier.$field),)* }
            }
        }
    };
}
