import java.util.LinkedHashMap;
import java.util.Map;

/** Scenarios of Kafka's own Java clients: {@code java Clients BOOTSTRAP [NAME...]}. */
public final class Clients {
    /** Scenarios at the same time: they mostly wait for timers of groups. */
    private static final int AT_ONCE = 4;

    public static void main(String[] arguments) throws Exception {
        Map<String, Suite.Scenario> scenarios = new LinkedHashMap<>();
        Groups.scenarios(scenarios);
        Transactions.scenarios(scenarios);
        Shares.scenarios(scenarios);
        Records.scenarios(scenarios);
        Administration.scenarios(scenarios);
        Suite.run(scenarios, AT_ONCE, arguments);
    }
}
