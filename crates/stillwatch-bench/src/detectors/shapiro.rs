//! The W of Shapiro and Wilk (1965), with Royston's weights (Applied Statistics 44,
//! 1995, algorithm AS R94).

use statrs::distribution::{ContinuousCDF, Normal};

/// W of a sample in ascending order: 1 for a normal one, less the less normal it is.
/// `None` for fewer than six values or values that are all the same.
///
/// Linear in the values.
pub fn w(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    if n < 6 {
        return None;
    }
    let size = n as f64;
    let mean = sorted.iter().sum::<f64>() / size;
    let squares = sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    if squares <= 1e-12 {
        return None;
    }
    let normal = Normal::standard();
    // Only the upper half: the lower is its mirror.
    let half = n / 2;
    let m: Vec<f64> =
        (0..half).map(|i| normal.inverse_cdf(((n - i) as f64 - 0.375) / (size + 0.25))).collect();
    let sum = 2.0 * m.iter().map(|m| m * m).sum::<f64>();
    let u = 1.0 / size.sqrt();
    let polynomial = |of: [f64; 5]| of.iter().rev().fold(0.0, |sum, c| (sum + c) * u);
    let first =
        polynomial([0.221_157, -0.147_981, -2.071_190, 4.434_685, -2.706_056]) + m[0] / sum.sqrt();
    let second =
        polynomial([0.042_981, -0.293_762, -1.752_461, 5.682_633, -3.582_633]) + m[1] / sum.sqrt();
    let rest = (sum - 2.0 * m[0] * m[0] - 2.0 * m[1] * m[1])
        / (1.0 - 2.0 * first * first - 2.0 * second * second);
    let weighted: f64 = (0..half)
        .map(|i| {
            let weight = match i {
                0 => first,
                1 => second,
                _ => m[i] / rest.sqrt(),
            };
            weight * (sorted[n - 1 - i] - sorted[i])
        })
        .sum();
    Some((weighted * weighted / squares).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The men's weights of Shapiro and Wilk's own example (Biometrika 52, 1965, page
    /// 606), whose W they give as 0.79; R's `shapiro.test` gives 0.7888.
    #[test]
    fn the_paper_s_example() {
        let weights = [148., 154., 158., 160., 161., 162., 166., 170., 182., 195., 236.];
        let w = w(&weights).unwrap();
        assert!((w - 0.7888).abs() < 5e-4, "{w}");
    }

    #[test]
    fn normal_quantiles_are_normal_and_two_heaps_are_not() {
        let normal = Normal::standard();
        let values: Vec<f64> =
            (1..=200).map(|i| normal.inverse_cdf(f64::from(i) / 201.0)).collect();
        assert!(w(&values).unwrap() > 0.99);
        let heaps: Vec<f64> =
            (0..200).map(|i| f64::from(i / 100) + f64::from(i % 100) * 1e-4).collect();
        assert!(w(&heaps).unwrap() < 0.75);
        assert_eq!(w(&[1.0; 20]), None);
        assert_eq!(w(&[1.0, 2.0]), None);
    }
}
