import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.common.utils.Exit;

/** One of Kafka's command-line tools, run in this virtual machine: what it wrote, and how it would have exited. */
record Tool(int status, String output) {
    /** Standard output and the exits of tools are the process's: one tool at a time. */
    private static final Object TURN = new Object();

    /** A text that no tool writes, but for one that catches what is thrown in place of an exit. */
    private static final String EXIT = "(the tool exits)";

    /** Thrown in place of an exit. Some tools catch it and exit once more; the first one counts. */
    private static final class Exited extends RuntimeException {
        private static final long serialVersionUID = 1;
        private final int status;

        Exited(int status) {
            super(EXIT, null, false, false);
            this.status = status;
        }
    }

    static Tool run(String name, String... arguments) throws Exception {
        return fed("", name, arguments);
    }

    /** The same, with text on standard input. */
    static Tool fed(String input, String name, String... arguments) throws Exception {
        synchronized (TURN) {
            InputStream in = System.in;
            PrintStream out = System.out;
            PrintStream err = System.err;
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            PrintStream both = new PrintStream(said, true, StandardCharsets.UTF_8);
            List<Runnable> hooks = new ArrayList<>();
            Exited[] exited = {null};
            Exit.Procedure leave = (code, message) -> {
                if (exited[0] == null) {
                    if (message != null) {
                        both.println(message);
                    }
                    exited[0] = new Exited(code);
                }
                throw exited[0];
            };
            try {
                System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
                System.setOut(both);
                System.setErr(both);
                Exit.setExitProcedure(leave);
                Exit.setHaltProcedure(leave);
                Exit.setShutdownHookAdder((hook, work) -> hooks.add(work));
                Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (InvocationTargetException thrown) {
                if (exited[0] == null) {
                    both.println(thrown.getCause());
                    exited[0] = new Exited(1);
                }
            } finally {
                hooks.forEach(Runnable::run);
                Exit.resetShutdownHookAdder();
                Exit.resetExitProcedure();
                Exit.resetHaltProcedure();
                System.setIn(in);
                System.setOut(out);
                System.setErr(err);
            }
            return new Tool(exited[0] == null ? 0 : exited[0].status, said.toString(StandardCharsets.UTF_8));
        }
    }

    /** One that says how it went when its virtual machine ends, and therefore needs one of its own. */
    static Tool apart(String name, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"));
        command.add("-Dlog4j2.configurationFile=" + System.getProperty("log4j2.configurationFile"));
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), name));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        process.getOutputStream().close();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Tool(process.waitFor(), output);
    }

    /** What it wrote, one text for each line, with runs of blanks made one. */
    List<String> lines() {
        return output.lines().map(line -> line.replaceAll("[ \t]+", " ").strip()).filter(line -> !line.isEmpty() && !line.contains(EXIT))
            .collect(Collectors.toList());
    }

    /** Fails unless the lines are these and the status is 0. A pattern may stand for what no two runs share: {@code <[0-9]+>}. */
    Tool says(String... wanted) {
        Suite.same(0, status, "the exit status of one that says " + output);
        return writes(wanted);
    }

    /** Fails unless the lines are these, whatever the status. */
    Tool writes(String... wanted) {
        List<String> lines = lines();
        boolean same = lines.size() == wanted.length;
        for (int at = 0; same && at < wanted.length; at++) {
            same = pattern(wanted[at]).matcher(lines.get(at)).matches();
        }
        Suite.holds(same, "it says " + lines + ", not " + List.of(wanted));
        return this;
    }

    /** Fails unless one of the lines is this. */
    Tool has(String wanted) {
        Suite.holds(lines().stream().anyMatch(line -> pattern(wanted).matcher(line).matches()),
            "no line is " + wanted + " in " + lines());
        return this;
    }

    private static Pattern pattern(String text) {
        StringBuilder pattern = new StringBuilder();
        int at = 0;
        var holes = Pattern.compile("<([^<>]*)>").matcher(text);
        while (holes.find()) {
            pattern.append(Pattern.quote(text.substring(at, holes.start()))).append("(?:").append(holes.group(1)).append(')');
            at = holes.end();
        }
        return Pattern.compile(pattern.append(Pattern.quote(text.substring(at))).toString());
    }
}
