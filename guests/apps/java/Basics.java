import java.nio.file.*;
import java.util.*;
import java.util.stream.*;

public class Basics {
    static int depth(int n) { return depth(n + 1) + 1; }

    public static void main(String[] args) throws Exception {
        System.out.println(String.join(",", args));
        System.out.println(IntStream.range(0, 1000).mapToObj(Integer::toString).collect(Collectors.joining()).hashCode());
        Path p = Paths.get("file.txt");
        Files.write(p, IntStream.range(0, 1000).mapToObj(i -> "line " + i).collect(Collectors.toList()));
        System.out.println(Files.lines(p).mapToInt(String::length).sum() + " " + Files.size(p));
        Files.delete(p);
        int caught = 0;
        for (int i = 0; i < 50000; i++) { // implicit null checks, by SIGSEGV once compiled
            try {
                String s = i % 2 == 0 ? null : "x";
                caught += s.length() - 1;
            } catch (NullPointerException e) {
                caught++;
            }
        }
        System.out.println("null pointers " + caught);
        try {
            depth(0);
        } catch (StackOverflowError e) {
            System.out.println("stack overflow");
        }
        try {
            System.out.println(1 / (args.length - 2));
        } catch (ArithmeticException e) {
            System.out.println(e.getMessage());
        }
        try {
            byte[][] big = new byte[1000][];
            for (int i = 0; i < 1000; i++) big[i] = new byte[10_000_000];
        } catch (OutOfMemoryError e) {
            System.out.println("out of memory");
        }
        Process q = new ProcessBuilder("sh", "-c", "echo from sh; exit 4").redirectErrorStream(true).start();
        System.out.println(new String(q.getInputStream().readAllBytes()).trim() + " " + q.waitFor());
        System.out.println(Runtime.getRuntime().availableProcessors() >= 1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
    }
}
