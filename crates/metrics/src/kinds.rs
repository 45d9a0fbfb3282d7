use metrics::{Label, SharedString, Unit};

/// What a label says.
pub type Value = SharedString;

/// Counts up.
#[derive(Debug)]
pub struct Counter<const N: usize>(Named<N>);

/// Stands somewhere.
#[derive(Debug)]
pub struct Gauge<const N: usize>(Named<N>);

/// Is counted by how large it was.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    named: Named<N>,
    buckets: &'static [f64],
}

#[derive(Debug)]
struct Named<const N: usize> {
    name: &'static str,
    labels: [&'static str; N],
}

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A [`Counter`].
    Counter,
    /// A [`Gauge`].
    Gauge,
    /// A [`Histogram`] with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// A metric as others see it.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What kind it is.
    pub kind: Kind,
    /// What it tells.
    pub text: &'static str,
}

/// Tells the recorder what each metric means.
pub fn describe(all: &[Described]) {
    for Described { name, kind, text, .. } in all {
        let text = text.trim();
        // Names end in their unit.
        let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, unit, text),
            Kind::Gauge => metrics::describe_gauge!(*name, unit, text),
            Kind::Histogram(_) => metrics::describe_histogram!(*name, unit, text),
        }
    }
}

impl<const N: usize> Counter<N> {
    pub(crate) const fn new(name: &'static str, labels: [&'static str; N]) -> Self {
        Self(Named { name, labels })
    }

    /// With these values of its labels.
    pub fn of(&self, values: [Value; N]) -> metrics::Counter {
        metrics::counter!(self.0.name, self.0.labels(values))
    }

    pub(crate) const fn described(&'static self, text: &'static str) -> Described {
        self.0.described(Kind::Counter, text)
    }
}

impl<const N: usize> Gauge<N> {
    pub(crate) const fn new(name: &'static str, labels: [&'static str; N]) -> Self {
        Self(Named { name, labels })
    }

    /// With these values of its labels.
    pub fn of(&self, values: [Value; N]) -> metrics::Gauge {
        metrics::gauge!(self.0.name, self.0.labels(values))
    }

    pub(crate) const fn described(&'static self, text: &'static str) -> Described {
        self.0.described(Kind::Gauge, text)
    }
}

impl<const N: usize> Histogram<N> {
    pub(crate) const fn new(name: &'static str, labels: [&'static str; N], buckets: &'static [f64]) -> Self {
        Self { named: Named { name, labels }, buckets }
    }

    /// With these values of its labels.
    pub fn of(&self, values: [Value; N]) -> metrics::Histogram {
        metrics::histogram!(self.named.name, self.named.labels(values))
    }

    pub(crate) const fn described(&'static self, text: &'static str) -> Described {
        self.named.described(Kind::Histogram(self.buckets), text)
    }
}

impl<const N: usize> Named<N> {
    fn labels(&self, values: [Value; N]) -> Vec<Label> {
        self.labels.into_iter().zip(values).map(|(name, value)| Label::new(name, value)).collect()
    }

    const fn described(&'static self, kind: Kind, text: &'static str) -> Described {
        Described { name: self.name, labels: &self.labels, kind, text }
    }
}
