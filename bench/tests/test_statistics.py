import unittest

from tithon_bench.statistics import Spread, exponent, ratio


class Statistics(unittest.TestCase):
    def test_a_spread_is_median_and_range(self):
        spread = Spread([3, 1, 10])
        self.assertEqual((spread.median, spread.low, spread.high, spread.count), (3, 1, 10, 3))

    def test_nothing_measured_is_an_error_not_a_zero(self):
        with self.assertRaises(ValueError):
            Spread([])

    def test_ratios_are_of_the_same_round(self):
        # The machine was ten times slower in the second round: the ratio does not notice.
        spread = ratio({0: 1.0, 1: 10.0}, {0: 2.0, 1: 20.0})
        self.assertEqual((spread.low, spread.high), (0.5, 0.5))

    def test_rounds_that_one_side_lacks_are_left_out(self):
        self.assertEqual(ratio({0: 1.0, 1: 9.0}, {0: 2.0}).median, 0.5)
        self.assertIsNone(ratio({0: 1.0}, {1: 2.0}))

    def test_a_ratio_to_nothing_is_none(self):
        self.assertIsNone(ratio({0: 1.0}, {0: 0.0}))

    def test_exponents_of_known_laws(self):
        sizes = [1, 10, 100]
        self.assertAlmostEqual(exponent([(x, 5.0) for x in sizes]), 0.0)
        self.assertAlmostEqual(exponent([(x, 3.0 * x) for x in sizes]), 1.0)
        self.assertAlmostEqual(exponent([(x, 0.1 * x * x) for x in sizes]), 2.0)

    def test_one_size_has_no_exponent(self):
        self.assertIsNone(exponent([(10, 1.0), (10, 2.0)]))
        self.assertIsNone(exponent([(10, 1.0), (100, 0.0)]))
