/** Messages that are known by their number, as the tests know them too ({@code tests/src/numbered.rs}). */
final class Numbered {
    private static final String FILLER = "x".repeat(100);

    private Numbered() {
    }

    static String key(long number) {
        return "k" + number % 997;
    }

    static String value(long number) {
        return number + " " + FILLER.substring(0, (int) (number % 100));
    }
}
